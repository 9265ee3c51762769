//! The API over a socket: paths, statuses, headers and limits, as signers and clients meet them.
use crate::stage::{Stage, fixture};
use mithril_common::entities::{BlockNumber, Epoch, SignedEntityType, SignedEntityTypeDiscriminants, Signer};
use mithril_common::messages::{
    CardanoBlocksProofsMessage, CardanoTransactionsProofsMessage, CardanoTransactionsProofsV2Message,
    RegisterSignatureMessageHttp, RegisterSignerMessage,
};
use semel_aggregator::host::events::{self, Events};
use semel_aggregator::host::http::proofs::Prover;
use semel_aggregator::host::http::routes::router;
use semel_aggregator::host::http::server::Server;
use semel_aggregator::host::http::{Options, Shared};
use semel_aggregator::host::store::certificates;
use semel_aggregator::host::store::entities::{self, Artifact};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct NoProofs;

impl Prover for NoProofs {
    fn transactions(&self, _: &[String]) -> Result<Option<CardanoTransactionsProofsMessage>, String> {
        Ok(None)
    }
    fn transactions_v2(&self, _: &[String]) -> Result<Option<CardanoTransactionsProofsV2Message>, String> {
        Ok(None)
    }
    fn blocks_v2(&self, _: &[String]) -> Result<Option<CardanoBlocksProofsMessage>, String> {
        Ok(None)
    }
}

pub(crate) fn serve(stage: &Stage, archives: Option<&std::path::Path>) -> Server {
    serve_with(stage, archives, Events::none())
}

/// The whole API, to be served by whoever wants it otherwise.
pub(crate) fn app(stage: &Stage) -> axum::Router {
    app_with(stage, None, Events::none())
}

fn serve_with(stage: &Stage, archives: Option<&std::path::Path>, events: Events) -> Server {
    Server::start("127.0.0.1:0".parse().unwrap(), app_with(stage, archives, events), 2).unwrap()
}

fn app_with(stage: &Stage, archives: Option<&std::path::Path>, events: Events) -> axum::Router {
    let options = Options {
        public_url: "http://127.0.0.1/aggregator/".into(),
        version: "0.1.0".into(),
        hashes_max: 100,
        archives: archives.map(Into::into),
        origins: vec!["EXPLORER".into()],
    };
    router(Shared::with_events(Arc::clone(&stage.engine), Arc::new(NoProofs), options, events))
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.head))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

pub(crate) fn send(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head, body: all[end + 4..].to_vec() }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, format!("GET /aggregator{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Reply {
    let length = body.len();
    let head =
        format!("POST /aggregator{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    send(address, format!("{head}{body}").as_bytes())
}

pub(crate) fn registration(epoch: u64, signer: Signer) -> String {
    let json_hex = |text: Result<String, _>| text.unwrap_or_else(|error: mithril_common::StdError| panic!("{error}"));
    serde_json::to_string(&RegisterSignerMessage {
        epoch: mithril_common::entities::Epoch(epoch),
        party_id: signer.party_id,
        verification_key_for_concatenation: json_hex(signer.verification_key_for_concatenation.to_json_hex()),
        verification_key_signature_for_concatenation: signer
            .verification_key_signature_for_concatenation
            .map(|one| json_hex(one.to_json_hex())),
        operational_certificate: signer.operational_certificate.map(|one| json_hex(one.to_json_hex())),
        kes_evolutions: signer.kes_evolutions,
    })
    .unwrap()
}

#[test]
fn a_network_runs_over_http_and_everything_that_is_certified_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(4);
    let stage = Stage::new(place.path(), &fixture, 10);
    let server = serve(&stage, None);
    let at = server.address();
    assert_eq!(get(at, "/status").status, 500);
    assert_eq!(post(at, "/register-signer", &registration(11, fixture.signers().remove(0))).status, 550);
    stage.settle();
    for epoch in [11, 12] {
        for signer in fixture.signers() {
            assert_eq!(post(at, "/register-signer", &registration(epoch, signer)).status, 201);
        }
        if epoch == 12 {
            assert_eq!(get(at, "/certificate/genesis").status, 404);
            stage.genesis();
        }
        stage.enter(epoch);
    }
    // Entered 12: signed by those who registered for 11.
    for open in stage.engine.open_messages() {
        for signature in fixture.sign_all(&open.hash) {
            let body = serde_json::to_string(&RegisterSignatureMessageHttp {
                signed_entity_type: open.message.entity.clone().into(),
                party_id: signature.party_id,
                signature: signature.signature.to_json_hex().unwrap(),
                won_indexes: signature.won_indexes,
                signed_message: open.hash.clone(),
            })
            .unwrap();
            assert_eq!(post(at, "/register-signatures", &body).status, 201);
        }
    }
    stage.settle();
    let list = get(at, "/certificates").json();
    assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
    let newest = list[0]["hash"].as_str().unwrap().to_owned();
    let certificate = get(at, &format!("/certificate/{newest}"));
    assert_eq!(certificate.json()["hash"], newest.as_str());
    assert!(certificate.header("cache-control").unwrap().contains("immutable"));
    assert_eq!(get(at, "/certificate/genesis").json()["multi_signature"], "");
    for (list, item) in [
        ("/artifact/mithril-stake-distributions", "/artifact/mithril-stake-distribution"),
        ("/artifact/cardano-stake-distributions", "/artifact/cardano-stake-distribution"),
    ] {
        let found = get(at, list).json();
        let hash = found[0]["hash"].as_str().unwrap();
        assert_eq!(get(at, &format!("{item}/{hash}")).json()["hash"], hash);
    }
    assert_eq!(get(at, "/artifact/cardano-stake-distribution/epoch/latest").status, 200);
    let settings = get(at, "/epoch-settings").json();
    assert_eq!((&settings["epoch"], settings["current_signers"].as_array().unwrap().len()), (&12.into(), 4));
    for epoch in [11, 12, 13] {
        assert_eq!(get(at, &format!("/protocol-configuration/{epoch}")).json()["protocol_parameters"]["k"], 5);
    }
    let registered = get(at, "/signers/registered/11").json();
    assert_eq!((&registered["signing_at"], registered["registrations"].as_array().unwrap().len()), (&13.into(), 4));
    assert_eq!(get(at, "/signers/tickers").json()["signers"].as_array().unwrap().len(), 4);
    assert_eq!(get(at, "/status").json()["cardano_network"], "devnet");
}

#[test]
fn replies_have_the_headers_and_statuses_that_clients_compare() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    let server = serve(&stage, None);
    let at = server.address();
    let root = get(at, "");
    assert_eq!(root.header("content-type"), Some("application/json"));
    assert_eq!(root.header("mithril-api-version"), Some("0.1.71"));
    assert_eq!(get(at, "/").json()["open_api_version"], "0.1.71");
    for path in [
        "/nowhere",
        "/certificate/00",
        "/certificate/..%2f..",
        "/artifact/cardano-database/xx",
        "/artifact/x",
        "/proof/v3",
    ] {
        let missing = get(at, path);
        assert_eq!((missing.status, missing.body.len()), (404, 0), "{path}");
        assert_eq!(missing.header("mithril-api-version"), Some("0.1.71"), "{path}");
    }
    for path in
        ["/artifact/cardano-database/epoch/latest-6", "/artifact/cardano-database/epoch/x", "/protocol-configuration/x"]
    {
        let refused = get(at, path);
        assert_eq!((refused.status, refused.json()["label"].as_str()), (400, Some("invalid_epoch")), "{path}");
    }
    for path in ["latest-5", "LATEST-1", "Latest"] {
        assert_eq!(get(at, &format!("/artifact/cardano-database/epoch/{path}")).status, 200, "{path}");
    }
    // Nobody registered nine epochs ago, and that is all that is wrong with it.
    assert_eq!(get(at, "/signers/registered/latest-9").status, 404);
    assert_eq!(
        get(at, "/proof/cardano-transaction?transaction_hashes=zz").json()["label"],
        "invalid_transaction_hashes"
    );
    assert_eq!(get(at, "/proof/v2/cardano-block").json()["label"], "invalid_block_hashes");
    let hash = "a".repeat(64);
    assert_eq!(get(at, &format!("/proof/cardano-transaction?transaction_hashes={hash}")).status, 404);
    assert_eq!(get(at, "/cardano-database-download/immutable/00000.tar.zst").status, 403);
    assert_eq!(get(at, "/register-signer").status, 405);
    let bare = b"POST /aggregator/register-signer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(send(at, bare).status, 411);
    let long = b"POST /aggregator/register-signer HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 16777216\r\n\r\n";
    assert_eq!(send(at, long).status, 413);
    let preflight = b"OPTIONS /aggregator/status HTTP/1.1\r\nhost: x\r\norigin: https://x\r\nconnection: close\r\n\r\n";
    let preflight = send(at, preflight);
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (200, Some("*")));
}

#[test]
fn what_cannot_be_decoded_is_refused_and_harms_nothing() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    let server = serve(&stage, None);
    let at = server.address();
    let deep = "[".repeat(100_000);
    let indexes = format!(
        r#"{{"entity_type":{{"MithrilStakeDistribution":10}},"party_id":"a","signature":"00","indexes":[{}1],"signed_message":"b"}}"#,
        "1,".repeat(70_000)
    );
    for body in ["", "{", "null", "[]", "{\"epoch\":-1}", deep.as_str(), indexes.as_str()] {
        for path in ["/register-signer", "/register-signatures"] {
            assert_eq!(post(at, path, body).status, 400, "{path} {}", &body[..body.len().min(40)]);
        }
    }
    let unknown =
        r#"{"entity_type":{"Something":1},"party_id":"a","signature":"00","indexes":[1],"signed_message":"b"}"#;
    assert_eq!(post(at, "/register-signatures", unknown).status, 400);
    let retired = r#"{"entity_type":{"CardanoImmutableFilesFull":{"network":"preprod","epoch":1,"immutable_file_number":2}},"party_id":"a","signature":"00","indexes":[1],"signed_message":"b"}"#;
    assert_eq!(post(at, "/register-signatures", retired).status, 410);
    assert_eq!(post(at, "/register-signer", &registration(12, fixture.signers().remove(0))).status, 500);
    assert_eq!(
        post(at, "/statistics/cardano-database/immutable-files-restored", "{\"nb_immutable_files\":3}").status,
        201
    );
    assert_eq!(post(at, "/statistics/cardano-database/immutable-files-restored", "x").status, 400);
    assert_eq!(get(at, "/status").status, 200);
}

#[test]
fn archives_are_served_whole_and_in_ranges_and_nothing_beside_them() {
    let place = tempfile::tempdir().unwrap();
    let archives = place.path().join("archives");
    std::fs::create_dir_all(archives.join("immutable")).unwrap();
    std::fs::write(archives.join("immutable/00000.tar.zst"), (0..=255).collect::<Vec<u8>>().repeat(4000)).unwrap();
    std::fs::write(archives.join("secret"), "x").unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    let server = serve(&stage, Some(&archives));
    let at = server.address();
    let whole = get(at, "/cardano-database-download/immutable/00000.tar.zst");
    assert_eq!((whole.status, whole.body.len()), (200, 1_024_000));
    assert!(whole.header("content-disposition").unwrap().contains("00000.tar.zst"));
    let part = send(at, b"GET /aggregator/cardano-database-download/immutable/00000.tar.zst HTTP/1.1\r\nhost: x\r\nrange: bytes=300-301\r\nconnection: close\r\n\r\n");
    assert_eq!((part.status, part.body.as_slice()), (206, [44, 45].as_slice()));
    assert_eq!(part.header("content-range"), Some("bytes 300-301/1024000"));
    let date = whole.header("last-modified").unwrap();
    let asked = |header: &str| {
        let path = "/aggregator/cardano-database-download/immutable/00000.tar.zst";
        send(at, format!("GET {path} HTTP/1.1\r\nhost: x\r\n{header}\r\nconnection: close\r\n\r\n").as_bytes())
    };
    assert_eq!(asked(&format!("if-modified-since: {date}")).status, 304);
    assert_eq!(asked("if-modified-since: Thu, 01 Jan 1970 00:00:00 GMT").status, 200);
    assert_eq!(asked(&format!("range: bytes=5-9\r\nif-range: {date}")).status, 206);
    assert_eq!(asked("range: bytes=5-9\r\nif-range: Thu, 01 Jan 1970 00:00:00 GMT").status, 200);
    assert_eq!(asked("range: bytes=5-9\r\nif-range: \"abc\"").status, 200);
    for path in
        ["/immutable/..%2fsecret", "/immutable/%2e%2e%2fsecret", "/secret/secret", "/immutable/.", "/digests/none"]
    {
        assert_eq!(get(at, &format!("/cardano-database-download{path}")).status, 404, "{path}");
    }
}

#[test]
fn half_open_connections_keep_nobody_out() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    let server = serve(&stage, None);
    let at = server.address();
    let idle: Vec<_> = (0..400)
        .map(|_| {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(b"GET /aggregator/status HTTP/1.1\r\nhost: ").unwrap();
            stream
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(get(at, "/status").status, 200);
    }
    drop(idle);
}

#[test]
fn certificates_that_nobody_can_verify_any_more_are_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.begin(&fixture);
    stage.sign(&fixture);
    stage.settle();
    let store = stage.engine.store();
    let before = store.read(|db| certificates::latest(db, 20)).unwrap();
    let bare = r#"{"epoch":12,"block_number":9}"#;
    let snapshot = r#"{"epoch":12,"immutable_file_number":9}"#;
    store
        .write(move |db| {
            let copy = |hash: &str, kind: i64, beacon: &str, key: Option<&str>| {
                let sql = "INSERT INTO certificate (certificate_id, parent_certificate_id, message, signature, \
                     aggregate_verification_key, epoch, network, signed_entity_type_id, signed_entity_beacon, \
                     protocol_version, protocol_parameters, protocol_message, signers, initiated_at, sealed_at, \
                     aggregate_verification_key_snark) \
                     SELECT ?1, parent_certificate_id, message, signature, aggregate_verification_key, epoch, network, ?2, \
                     ?3, protocol_version, protocol_parameters, protocol_message, signers, initiated_at, sealed_at, ?4 \
                     FROM certificate ORDER BY rowid DESC LIMIT 1";
                db.execute(sql, (hash, kind, beacon, key))
            };
            db.execute("INSERT INTO signed_entity_type VALUES (2, 'Full Cardano Immutable Files')", [])?;
            copy("snark", 0, "12", Some("00"))?;
            copy("snapshot", 2, snapshot, None)?;
            copy("blocks", 5, bare, None)?;
            db.execute("INSERT INTO signed_entity VALUES ('artifact', 5, 'blocks', ?1, '2026-01-01T00:00:00Z', '{}')", [
                bare,
            ])?;
            Ok(())
        })
        .unwrap();
    let hashes =
        |list: &[mithril_common::entities::Certificate]| list.iter().map(|one| one.hash.clone()).collect::<Vec<_>>();
    let after = store.read(|db| certificates::latest(db, 20)).unwrap();
    assert_eq!(hashes(&after), hashes(&before));
    stage.engine.load_chain().unwrap();
    let server = serve(&stage, None);
    let at = server.address();
    assert_eq!(get(at, "/certificates").json().as_array().unwrap().len(), before.len());
    for hash in ["snark", "snapshot", "blocks"] {
        assert_eq!(get(at, &format!("/certificate/{hash}")).status, 404, "{hash}");
    }
    assert_eq!(get(at, &format!("/certificate/{}", before[0].hash)).status, 200);
    assert_eq!(get(at, "/artifact/cardano-blocks-transactions").json(), serde_json::json!([]));
    assert_eq!(get(at, "/artifact/cardano-blocks-transactions/artifact").status, 404);
    // What comes next continues what can be read.
    stage.enter(13);
    stage.register(&fixture);
    stage.sign(&fixture);
    stage.settle();
    assert!(store.read(|db| certificates::latest(db, 20)).unwrap().len() > before.len());
}

#[test]
fn registrations_and_restorations_are_told_to_the_event_database() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    let stores = place.path().join("stores");
    let server = serve_with(&stage, None, Events::open(&stores, None).unwrap());
    let at = server.address();
    for (signer, version) in fixture.signers().into_iter().zip(["1.0", "1.0", "1.1"]) {
        let body = registration(11, signer);
        let head = format!(
            "POST /aggregator/register-signer HTTP/1.1\r\nhost: x\r\nconnection: close\r\nsigner-node-version: {version}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // Twice: the second time nothing new is told.
        for _ in 0..2 {
            assert_eq!(send(at, format!("{head}{body}").as_bytes()).status, 201);
        }
    }
    assert_eq!(post(at, "/register-signer", "{}").status, 400);
    let restored = "/statistics/cardano-database/immutable-files-restored";
    assert_eq!(post(at, restored, "{\"nb_immutable_files\":7}").status, 201);
    assert_eq!(post(at, "/statistics/cardano-database/partial-restoration", "").status, 201);
    drop(server);
    let db = semel_aggregator::host::store::Connection::open(stores.join(events::FILE)).unwrap();
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
    // Files that were restored are counted elsewhere.
    assert_eq!(count("SELECT count(*) FROM event"), 4);
    assert_eq!(count("SELECT pool_count FROM signer_registration_summary WHERE version = '1.0' AND epoch = 11"), 2);
    let stakes = fixture.stake_distribution().values().sum::<u64>();
    assert_eq!(count("SELECT sum(stakes_version) FROM signer_registration_summary"), stakes);
    let content = |action: &str| -> Value {
        let sql = "SELECT json_extract(content, '$.content') FROM event WHERE action = ?1 ORDER BY event_id LIMIT 1";
        let text: String = db.query_row(sql, [action], |row| row.get(0)).unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    assert_eq!(content("cardano_database_restoration"), "partial");
    let signer = serde_json::to_value(&fixture.signers_with_stake()[0]).unwrap();
    assert_eq!(content("register_signer"), signer);
}

#[test]
fn fields_of_the_lagrange_era_are_kept_and_given_back_and_change_no_hash() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    let server = serve(&stage, None);
    let at = server.address();
    let fields = |number: usize| {
        serde_json::json!({
            "verification_key_for_snark": format!("a{number}").repeat(64),
            "verification_key_signature_for_snark": format!("b{number}").repeat(400),
            "proof_of_bound_possession_for_snark": format!("c{number}").repeat(64),
        })
    };
    let with = |body: &str, fields: &Value| {
        let mut body: Value = serde_json::from_str(body).unwrap();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body.to_string()
    };
    for epoch in [11, 12, 13] {
        stage.enter(epoch - 1);
        for (number, signer) in fixture.signers().into_iter().enumerate() {
            let bare = registration(epoch, signer);
            // The last one is of the era before; the second repeats itself without, and nothing is lost.
            let bodies = match number {
                0 => vec![with(&bare, &fields(9)), with(&bare, &fields(0))],
                1 => vec![with(&bare, &fields(1)), bare],
                _ => vec![bare],
            };
            for body in bodies {
                assert_eq!(post(at, "/register-signer", &body).status, 201, "{body}");
            }
        }
        if epoch == 12 {
            stage.genesis();
        }
    }
    let too_long = serde_json::json!({"verification_key_for_snark": "a".repeat(20_000)});
    for wrong in [
        too_long,
        serde_json::json!({"verification_key_for_snark": 7}),
        serde_json::json!({"proof_of_bound_possession_for_snark": "x"}),
    ] {
        let body = with(&registration(13, fixture.signers().remove(0)), &wrong);
        assert_eq!(post(at, "/register-signer", &body).status, 400);
    }
    stage.sign(&fixture);
    stage.settle();
    let hash = get(at, "/artifact/mithril-stake-distributions").json()[0]["hash"].as_str().unwrap().to_owned();
    let artifact = get(at, &format!("/artifact/mithril-stake-distribution/{hash}"));
    let settings = get(at, "/epoch-settings").json();
    let parties: Vec<String> = fixture.signers().into_iter().map(|signer| signer.party_id).collect();
    for list in [&settings["current_signers"], &settings["next_signers"], &artifact.json()["signers"]] {
        assert_eq!(list.as_array().unwrap().len(), 3);
        for (number, party) in parties.iter().enumerate() {
            let signer = list.as_array().unwrap().iter().find(|signer| signer["party_id"] == party.as_str()).unwrap();
            for (name, sent) in fields(number).as_object().unwrap() {
                assert_eq!(signer.get(name), Some(sent).filter(|_| number < 2), "{number} {name}");
            }
        }
    }
    // The hash is that of the same signers without any of it, as Mithril's own code computes it.
    let message: mithril_common::messages::MithrilStakeDistributionMessage =
        serde_json::from_slice(&artifact.body).unwrap();
    let signers = mithril_common::messages::SignerWithStakeMessagePart::try_into_signers(message.signers_with_stake);
    let same = mithril_common::entities::MithrilStakeDistribution::new(
        message.epoch,
        signers.unwrap(),
        &message.protocol_parameters,
    );
    assert_eq!(same.hash, hash);
}

#[test]
fn a_proof_of_what_is_certified_is_worth_waiting_for() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(2);
    let chain = Arc::clone(&Stage::new(place.path(), &fixture, 10).chain);
    let stage = Stage::with(place.path(), &fixture, chain, |parts| {
        parts.options.kinds.insert(SignedEntityTypeDiscriminants::CardanoTransactions);
    });
    stage.begin(&fixture);
    let server = serve(&stage, None);
    let hash = "ab".repeat(32);
    let v1 = format!("/proof/cardano-transaction?transaction_hashes={hash}");
    assert_eq!(get(server.address(), &v1).status, 404, "nothing is certified");
    let newest = stage.engine.store().read(|db| certificates::latest(db, 1)).unwrap().remove(0);
    let artifact = Artifact {
        id: "one".into(),
        entity: SignedEntityType::CardanoTransactions(Epoch(10), BlockNumber(29)),
        certificate: newest.hash,
        created_at: *stage.clock.lock().unwrap(),
        content: "{}".into(),
    };
    stage.engine.store().write(move |db| entities::insert(db, &artifact)).unwrap();
    let reply = get(server.address(), &v1);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("30")));
    let v2 = format!("/proof/v2/cardano-transaction?transaction_hashes={hash}");
    assert_eq!(get(server.address(), &v2).status, 404, "of another type");
}

#[test]
fn the_standing_tells_what_keeps_certificates_from_being_made() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(2);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    let server = serve(&stage, None);
    let standing = || get(server.address(), "/semel/standing").json();
    assert_eq!(standing()["state"], "blocked");
    assert_eq!(standing()["why"], "there is no genesis certificate");
    stage.begin(&fixture);
    let standing = standing();
    assert_eq!((&standing["state"], &standing["why"]), (&"signing".into(), &Value::Null));
    let open = &standing["open_messages"][0];
    assert_eq!((&open["indexes"], &open["is_certified"]), (&0.into(), &false.into()));
    assert!(
        open["quorum"].as_u64().unwrap() > 0 && open["type"] == "MithrilStakeDistribution" && open["beacon"].is_u64(),
        "{open}"
    );
    for path in ["/certificate/%ff", "/artifact/%c3%28/x", "/signers/registered/%80"] {
        let reply = get(server.address(), path);
        assert_eq!((reply.status, reply.body.len(), reply.header("content-type")), (404, 0, None), "{path}");
    }
}
