//! The server is held to the OpenAPI document: every route and every status of it is asked for in a state that yields it, and
//! each reply is judged by the document's schemas and by what clients compare of its headers.

use crate::document::{Answer, Document};
use crate::scene::until;
use mithril_common::entities::Epoch;
use mithril_common::messages::SignerMessagePart;
use semel_aggregator::host::store::{Connection, FILE, epochs};
use semel_devnet_cardano::certified::{Certified, Conditions};
use semel_devnet_cardano::signer::{Conduct, Signer};
use semel_devnet_cardano::{CardanoNet, Options};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Answers that no state of ours yields, each with its reason.
const NEVER: [(&str, &str, &str, &str); 4] = [
    ("/", "get", "default", "it tells settings only, which are there from the start"),
    ("/statistics/cardano-database/ancillary-files-restored", "post", "default", "nothing is sent that could be wrong"),
    ("/statistics/cardano-database/complete-restoration", "post", "default", "nothing is sent that could be wrong"),
    ("/statistics/cardano-database/partial-restoration", "post", "default", "nothing is sent that could be wrong"),
];

struct Stage {
    net: CardanoNet,
    aggregator: Certified,
    signers: Vec<Signer>,
    stores: PathBuf,
    _directory: tempfile::TempDir,
}

impl Stage {
    /// Four pools, the smallest far from a quorum, on a network that something happened to before the aggregator came.
    fn new(before: impl FnOnce(&CardanoNet)) -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path().join("node"));
        options.pools = 4;
        options.parameters.k = 45;
        let net = CardanoNet::start(options).unwrap();
        before(&net);
        let conditions = Conditions::new(directory.path().join("aggregator"));
        let aggregator = Certified::start(&net, &conditions).unwrap();
        let signers = net.signers(aggregator.url()).unwrap();
        let stores = conditions.directory.join("stores");
        Stage { net, aggregator, signers, stores, _directory: directory }
    }

    /// Two epochs of registrations and a genesis: the third epoch can be certified, and nobody has signed in it.
    fn begin(&mut self) {
        for is_genesis in [false, true] {
            self.aggregator.wait_epoch(&self.net).unwrap();
            for signer in &mut self.signers {
                signer.tick().unwrap();
            }
            if is_genesis {
                self.aggregator.bootstrap().unwrap();
            }
            self.net.advance_epoch().unwrap();
        }
        self.aggregator.wait_epoch(&self.net).unwrap();
        let engine = self.aggregator.running().engine();
        until("open messages", || engine.open_messages().len() == 5);
    }
}

/// What was asked, and what it had to be by the document.
#[derive(Default)]
struct Record {
    seen: BTreeMap<(String, String, String), u64>,
}

struct Contract<'a> {
    document: &'a Document,
    record: Record,
}

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn ask(url: &str, method: &str, target: &str, body: Option<&str>) -> Reply {
    let (host, base) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let (method, body) = (method.to_uppercase(), body.unwrap_or_default());
    let length = body.len();
    write!(stream, "{method} /{base}{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").unwrap();
    write!(stream, "content-length: {length}\r\n\r\n{body}").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (head, body) = all.split_at(end);
    let head = String::from_utf8(head.to_vec()).unwrap();
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, headers, body: body.get(4..).unwrap().to_vec() }
}

impl Contract<'_> {
    /// Asks, and judges the reply; gives its body.
    fn ask(&mut self, url: &str, method: &str, target: &str, sent: Option<&Value>, status: u16) -> Value {
        let reply = ask(url, method, target, sent.map(Value::to_string).as_deref());
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status, status, "{method} {target}: {text}");
        let answer = self.document.answer(method, target, status);
        self.judge_request(&answer, sent, status);
        let version = reply.headers.get("mithril-api-version").map(String::as_str);
        assert_eq!(version, Some(self.document.version()), "{target}");
        let Answer { path, method, status, schema } = answer;
        let content = reply.headers.get("content-type").map(String::as_str);
        let body = match schema {
            None => {
                assert_eq!((text.as_str(), content), ("", None), "{target}: {status}");
                Value::Null
            }
            Some(schema) => {
                assert_eq!(content, Some("application/json"), "{target}: {status}");
                let body: Value = serde_json::from_slice(&reply.body).unwrap();
                self.document.judge(&schema, &body).unwrap_or_else(|why| panic!("{target}: {status}: {why}: {text}"));
                if reply.status / 100 == 4 {
                    assert!(body.get("label").is_some_and(Value::is_string), "{target}: {text}");
                }
                body
            }
        };
        *self.record.seen.entry((path, method, status)).or_default() += 1;
        body
    }

    fn get(&mut self, url: &str, target: &str, status: u16) -> Value {
        self.ask(url, "get", target, None, status)
    }

    /// What is sent and taken fits the document, too.
    fn judge_request(&self, answer: &Answer, sent: Option<&Value>, status: u16) {
        let (Some(sent), true) = (sent, (200..300).contains(&status)) else { return };
        if let Some(schema) = self.document.request(&answer.path) {
            self.document.judge(schema, sent).unwrap_or_else(|why| panic!("sent to {}: {why}", answer.path));
        }
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}: {value}"))
}

/// What a signer posts now, its first signature of it.
fn signed(signer: &mut Signer) -> Value {
    let (message, _) = signer.tick().unwrap().signatures.swap_remove(0);
    serde_json::to_value(message).unwrap()
}

/// A registration that is recorded for an epoch, as its signer sent it.
fn registration(stage: &Stage, epoch: u64) -> Value {
    let store = stage.aggregator.running().engine().store();
    let signers = store.read(|db| epochs::signers(db, Epoch(epoch))).unwrap();
    let part = SignerMessagePart::from_signers(vec![signers.into_iter().next().unwrap().into()]).remove(0);
    let mut signer = serde_json::to_value(part).unwrap();
    signer.as_object_mut().unwrap().insert("epoch".into(), epoch.into());
    signer
}

/// Before any epoch is entered: nothing is there, and nobody can register.
fn before_the_first_epoch(contract: &mut Contract<'_>) {
    let stage = Stage::new(|net| net.set_no_stake(true));
    let url = stage.aggregator.url();
    let engine = stage.aggregator.running().engine();
    until("the trouble", || engine.standing().trouble.is_some());
    contract.get(url, "/status", 500);
    contract.get(url, "/epoch-settings", 500);
    contract.get(url, "/certificate/genesis", 404);
}

/// In the first epoch: a round is open, and nobody is registered for now.
fn in_the_first_epoch(contract: &mut Contract<'_>, signature: &Value, signer: &Value) {
    let stage = Stage::new(|_| {});
    let url = stage.aggregator.url();
    stage.aggregator.wait_epoch(&stage.net).unwrap();
    contract.ask(url, "post", "/register-signatures", Some(signature), 404);
    let mut for_now = signer.clone();
    for_now.as_object_mut().unwrap().insert("epoch".into(), json!(10));
    contract.ask(url, "post", "/register-signer", Some(&for_now), 500);
    let hash = "a".repeat(64);
    for (route, parameter) in [
        ("/proof/cardano-transaction", "transaction_hashes"),
        ("/proof/v2/cardano-transaction", "transaction_hashes"),
        ("/proof/v2/cardano-block", "block_hashes"),
    ] {
        contract.get(url, &format!("{route}?{parameter}={hash}"), 404);
        contract.get(url, &format!("{route}?{parameter}=zz"), 400);
    }
    // The next epoch's snapshot is nobody's: its round is closed.
    stage.net.set_no_stake(true);
    stage.net.advance_epoch().unwrap();
    let engine = stage.aggregator.running().engine();
    until("the closed round", || engine.round().is_none());
    contract.ask(url, "post", "/register-signer", Some(&for_now), 550);
}

/// While signatures are collected: gives a signature that is believed, and a registration.
fn while_signing(contract: &mut Contract<'_>, stage: &mut Stage) -> (Value, Value) {
    stage.begin();
    let url = stage.aggregator.url().to_owned();
    let settings = contract.get(&url, "/epoch-settings", 200);
    let epoch = settings.get("epoch").and_then(Value::as_u64).unwrap();
    contract.ask(&url, "post", "/register-signer", Some(&json!({"epoch": epoch})), 400);
    // The smallest signer of four is less than the quorum.
    let smallest = stage.signers.last_mut().unwrap();
    let first = signed(smallest);
    smallest.set_conduct(Conduct::Ahead(1_000));
    let early = signed(smallest);
    smallest.set_conduct(Conduct::Honest);
    let signer = registration(stage, epoch + 1);
    contract.ask(&url, "post", "/register-signer", Some(&signer), 201);
    contract.ask(&url, "post", "/register-signatures", Some(&first), 201);
    contract.ask(&url, "post", "/register-signatures", Some(&early), 202);
    let other = json!({"signed_message": "other"});
    let other = early.as_object().into_iter().chain(other.as_object()).flatten().collect::<BTreeMap<_, _>>();
    contract.ask(&url, "post", "/register-signatures", Some(&json!(other)), 400);
    (first, signer)
}

/// When everything is certified: every route has something to show.
fn when_certified(contract: &mut Contract<'_>, stage: &mut Stage, late: &Value) {
    stage.aggregator.certify(&mut stage.signers).unwrap();
    let url = stage.aggregator.url().to_owned();
    contract.ask(&url, "post", "/register-signatures", Some(late), 410);
    for route in ["/", "/status", "/certificate/genesis", "/signers/tickers", "/artifact/cardano-database/digests"] {
        let body = contract.get(&url, route, 200);
        assert!(!body.as_array().is_some_and(Vec::is_empty), "{route}");
    }
    let none = "0".repeat(64);
    for (list, item) in [
        ("/certificates", "/certificate"),
        ("/artifact/mithril-stake-distributions", "/artifact/mithril-stake-distribution"),
        ("/artifact/cardano-stake-distributions", "/artifact/cardano-stake-distribution"),
        ("/artifact/cardano-database", "/artifact/cardano-database"),
        ("/artifact/cardano-transactions", "/artifact/cardano-transaction"),
        ("/artifact/cardano-blocks-transactions", "/artifact/cardano-blocks-transactions"),
    ] {
        let all = contract.get(&url, list, 200);
        for one in all.as_array().filter(|all| !all.is_empty()).unwrap() {
            let hash = text(one, "/hash");
            let found = contract.get(&url, &format!("{item}/{hash}"), 200);
            assert_eq!(text(&found, "/hash"), hash, "{item}");
            if item == "/artifact/cardano-database" {
                assert_eq!(text(&found, "/network"), "preview");
            }
        }
        contract.get(&url, &format!("{item}/{none}"), 404);
    }
    let epoch = *stage.net.epoch();
    for asked in [epoch.to_string(), "latest".to_owned()] {
        let databases = contract.get(&url, &format!("/artifact/cardano-database/epoch/{asked}"), 200);
        assert_eq!(databases.as_array().map(Vec::len), Some(1), "{asked}");
    }
    contract.get(&url, "/artifact/cardano-stake-distribution/epoch/latest", 200);
    contract.get(&url, &format!("/artifact/cardano-stake-distribution/epoch/{}", epoch + 9), 404);
    contract.get(&url, &format!("/signers/registered/{epoch}"), 200);
    contract.get(&url, "/signers/registered/9999", 404);
    contract.get(&url, &format!("/protocol-configuration/{epoch}"), 200);
    contract.get(&url, "/protocol-configuration/9999", 404);
    for route in [
        "/artifact/cardano-database/epoch",
        "/artifact/cardano-stake-distribution/epoch",
        "/signers/registered",
        "/protocol-configuration",
    ] {
        contract.get(&url, &format!("{route}/latest-x"), 400);
    }
    proofs(contract, stage);
    let restored = "/statistics/cardano-database/immutable-files-restored";
    contract.ask(&url, "post", restored, Some(&json!({"nb_immutable_files": 3})), 201);
    contract.ask(&url, "post", restored, Some(&json!({"nb_immutable_files": "three"})), 400);
    for what in ["ancillary-files-restored", "complete-restoration", "partial-restoration"] {
        contract.ask(&url, "post", &format!("/statistics/cardano-database/{what}"), None, 201);
    }
}

/// Proofs of a block and a transaction that are certified, each beside one that is not.
fn proofs(contract: &mut Contract<'_>, stage: &Stage) {
    let url = stage.aggregator.url();
    let none = "0".repeat(64);
    let blocks = stage.net.blocks();
    let old = blocks.iter().take(blocks.len() / 2);
    let block = old.clone().map(|block| hex::encode(block.hash)).next().unwrap();
    let transaction = old
        .clone()
        .find_map(|block| {
            let block = pallas_traverse::MultiEraBlock::decode(&block.bytes).unwrap();
            block.txs().first().map(|transaction| hex::encode(transaction.hash()))
        })
        .unwrap();
    for (route, parameter, hash, certified, not) in [
        ("", "transaction_hashes", &transaction, "/certified_transactions/0/proof", "/non_certified_transactions/0"),
        ("/v2", "transaction_hashes", &transaction, "/certified_transactions/proof", "/non_certified_transactions/0"),
        ("/v2", "block_hashes", &block, "/certified_blocks/proof", "/non_certified_blocks/0"),
    ] {
        let what = if parameter == "block_hashes" { "cardano-block" } else { "cardano-transaction" };
        let target = format!("/proof{route}/{what}?{parameter}={hash},{none}");
        let proof = contract.get(url, &target, 200);
        assert!(!text(&proof, certified).is_empty(), "{target}");
        assert_eq!(text(&proof, not), none, "{target}");
        let only = contract.get(url, &format!("/proof{route}/{what}?{parameter}={none}"), 200);
        assert!(only.pointer(certified).is_none(), "{only}");
    }
}

/// When the database is gone: everything that has to be read from it fails, and says so as the document wants.
fn when_the_database_is_broken(contract: &mut Contract<'_>, signature: &Value) {
    let mut stage = Stage::new(|_| {});
    stage.begin();
    let url = stage.aggregator.url();
    break_tables(&stage.stores);
    for route in [
        "/certificates",
        "/certificate/genesis",
        "/certificate/00",
        "/artifact/mithril-stake-distributions",
        "/artifact/mithril-stake-distribution/00",
        "/artifact/cardano-stake-distributions",
        "/artifact/cardano-stake-distribution/00",
        "/artifact/cardano-database",
        "/artifact/cardano-database/00",
        "/artifact/cardano-database/digests",
        "/artifact/cardano-transactions",
        "/artifact/cardano-transaction/00",
        "/artifact/cardano-blocks-transactions",
        "/artifact/cardano-blocks-transactions/00",
        "/signers/tickers",
    ] {
        contract.get(url, route, 500);
    }
    // As this network is the other one again, signature and beacon are those that were believed there.
    contract.ask(url, "post", "/register-signatures", Some(signature), 500);
}

fn break_tables(stores: &Path) {
    let database = Connection::open(stores.join(FILE)).unwrap();
    database.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON;").unwrap();
    for table in ["certificate", "signed_entity", "signer", "immutable_file_digest", "single_signature"] {
        database.execute_batch(&format!("ALTER TABLE {table} RENAME TO {table}_gone")).unwrap();
    }
}

#[test]
fn every_route_and_status_of_the_document_is_answered_as_the_document_says() {
    let document = Document::load();
    let mut contract = Contract { document: &document, record: Record::default() };
    let mut stage = Stage::new(|_| {});
    let (signature, signer) = while_signing(&mut contract, &mut stage);
    when_certified(&mut contract, &mut stage, &signature);
    before_the_first_epoch(&mut contract);
    in_the_first_epoch(&mut contract, &signature, &signer);
    when_the_database_is_broken(&mut contract, &signature);
    let said: BTreeSet<_> =
        document.answers().into_iter().map(|answer| (answer.path, answer.method, answer.status)).collect();
    let never: BTreeSet<_> = NEVER
        .iter()
        .map(|(path, method, status, _)| (path.to_string(), method.to_string(), status.to_string()))
        .collect();
    assert!(never.is_subset(&said), "{never:?}");
    let seen: BTreeSet<_> = contract.record.seen.keys().cloned().collect();
    let left: Vec<_> = said.difference(&seen).filter(|one| !never.contains(*one)).collect();
    assert!(left.is_empty(), "never asked for: {left:#?}");
    assert!(seen.is_disjoint(&never), "these can be had after all");
    println!("{} of {} answers, {} replies", seen.len(), said.len(), contract.record.seen.values().sum::<u64>());
}
