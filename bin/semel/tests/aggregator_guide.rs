//! The operators' guide of the aggregator with the real binary, over a Cardano node's socket and files, with signers that speak HTTP.
//!
//! The environment files are the guide's own, read from its text; paths, ports and secrets are put in their place. The network is
//! called preprod, and its era markers are those that the key in the guide signed, so that its era reader needs no change.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop")]

mod stage;

use rustix::process::{Pid, Signal, kill_process};
use semel_devnet_cardano::signer::Signer;
use semel_devnet_cardano::{CardanoNet, Options};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// A server ends within this time.
const END: Duration = Duration::from_secs(5);
/// What the key in the guide signed: Pythagoras begins with the epoch that the network begins in.
const MARKERS: &str = r#"[{"name":"thales","epoch":1},{"name":"pythagoras","epoch":723}]"#;
const MARKERS_SIGNATURE: &str = "fdcd45debabc148ef11c0bf71e42b7e583102dd5b8e486cd621a18e56136a57ff4f7bf9d036aed6148328a30a20eb6e79422ea4d1cc613e0bf97e14da64a5f00";
const FIRST_EPOCH: u64 = 723;
const POOLS: u64 = 3;

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn guide(test: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/guides/M-mithril-aggregator.md");
    let text = fs::read_to_string(path).ok();
    if text.is_none() {
        stage::skip(test, "the guide is not beside this repository");
    }
    text
}

/// The three blocks of the guide's example: base, database, transactions.
fn environment(guide: &str) -> String {
    let blocks = guide.split("/opt/mithril/mithril-aggregator.env << EOF\n").skip(4).take(3);
    blocks.map(|block| block.split("EOF").next().unwrap()).collect()
}

fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A datum as it lies on the chain.
fn datum() -> Vec<u8> {
    let payload = format!(r#"{{"markers":{MARKERS},"signature":"{MARKERS_SIGNATURE}"}}"#);
    let mut cbor = vec![0xd8, 0x79, 0x9f];
    for field in payload.as_bytes().chunks(64) {
        cbor.extend([0x58, u8::try_from(field.len()).unwrap()]);
        cbor.extend(field);
    }
    cbor.push(0xff);
    cbor
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// A host with a Cardano node and the guide's files.
struct Host {
    directory: tempfile::TempDir,
    /// On the disk that the build is on: a ledger wants no file system that forgets.
    ledger: tempfile::TempDir,
    net: CardanoNet,
    variables: BTreeMap<String, String>,
    ports: [u16; 2],
}

impl Host {
    fn new(test: &str, changed: &[(&str, &str)], removed: &[&str]) -> Option<Self> {
        let variables = variables(&environment(&guide(test)?));
        assert!(variables.len() >= 28, "{variables:?}");
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(directory.path().join("node"));
        fs::create_dir(&options.directory).unwrap();
        (options.magic, options.first_epoch, options.pools) = (1, FIRST_EPOCH, POOLS);
        let net = CardanoNet::start(options).unwrap();
        let params: Value = serde_json::from_str(&variables["ERA_READER_ADAPTER_PARAMS"]).unwrap();
        let address = pallas_addresses::Address::from_bech32(params["address"].as_str().unwrap()).unwrap();
        net.set_datums(address.to_vec(), vec![datum()]);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_semel"), directory.path().join("mithril-aggregator")).unwrap();
        let ledger = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut host = Self { directory, ledger, net, variables, ports: [free_port(), free_port()] };
        host.put_in_place(changed, removed);
        Some(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put_in_place(&mut self, changed: &[(&str, &str)], removed: &[&str]) {
        for (directory, name) in [("keys", "genesis"), ("keys/ancillary", "ancillary")] {
            fs::create_dir(self.path(directory)).unwrap();
            let ran = self.run(&["genesis", "generate-keypair", "--target-path", directory]);
            assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
        }
        let read = |name: &str| fs::read_to_string(self.path(name)).unwrap().trim().to_owned();
        let ancillary = format!(r#"{{"type": "secret-key", "secret_key": "{}"}}"#, read("keys/ancillary/genesis.sk"));
        let [port, metrics] = self.ports;
        let mut of_this_host = vec![
            ("SERVER_PORT", port.to_string()),
            ("PUBLIC_SERVER_URL", format!("http://127.0.0.1:{port}/aggregator")),
            ("RUN_INTERVAL", "100".to_owned()),
            ("CARDANO_NODE_SOCKET_PATH", self.net.socket().display().to_string()),
            ("DB_DIRECTORY", self.net.db_directory().display().to_string()),
            ("DATA_STORES_DIRECTORY", self.path("stores").display().to_string()),
            ("SNAPSHOT_DIRECTORY", self.path("snapshots").display().to_string()),
            ("ANCILLARY_FILES_SIGNER_CONFIG", ancillary),
            ("GENESIS_VERIFICATION_KEY", read("keys/genesis.vk")),
            ("ENABLE_METRICS_SERVER", "true".to_owned()),
            ("METRICS_SERVER_IP", "127.0.0.1".to_owned()),
            ("METRICS_SERVER_PORT", metrics.to_string()),
        ];
        of_this_host.extend(changed.iter().map(|(name, value)| (*name, (*value).to_owned())));
        self.variables.extend(of_this_host.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self.variables.retain(|name, _| !removed.contains(&name.as_str()));
        let text: String = self.variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        fs::write(self.path("mithril-aggregator.env"), text).unwrap();
    }

    /// The guide's program with the variables that systemd would give it.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.path("mithril-aggregator"));
        command.args(words).current_dir(self.directory.path()).stdin(Stdio::null());
        command.env_clear().envs(&self.variables).env("SEMEL_LEDGER", self.ledger.path()).env("COLUMNS", "100");
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        let output = self.command(words).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn done(&self, words: &[&str]) -> Ran {
        let ran = self.run(words);
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        ran
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/aggregator", self.ports[0])
    }

    /// Starts the server as the guide's unit does, and waits until it serves.
    fn start(&self) -> Server {
        let log = |name: &str| File::options().create(true).append(true).open(self.path(name)).unwrap();
        let child = self.command(&["-vvv"]).stdout(log("out.log")).stderr(log("err.log")).spawn().unwrap();
        let mut server = Server { child };
        until("the API", || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.read("err.log"));
            std::net::TcpStream::connect(("127.0.0.1", self.ports[0])).is_ok()
        });
        server
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn get(&self, route: &str) -> (u16, String) {
        stage::get(&format!("127.0.0.1:{}", self.ports[0]), &format!("/aggregator{route}"))
    }

    fn json(&self, route: &str) -> Value {
        let (status, body) = self.get(route);
        assert_eq!(status, 200, "{route}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    fn signers(&self) -> Vec<Signer> {
        self.net.signers(&self.url()).unwrap()
    }

    /// Ticks until every signer has registered in this epoch.
    fn register(&self, signers: &mut [Signer]) {
        let mut left: BTreeSet<_> = signers.iter().map(|signer| signer.party_id().to_owned()).collect();
        until("a registration", || {
            for signer in signers.iter_mut() {
                let report = signer.tick();
                if report.is_ok_and(|report| report.registrations.contains(&201)) {
                    left.remove(signer.party_id());
                }
            }
            left.is_empty()
        });
    }

    /// Two rounds of registrations; `genesis` comes in the second, while no server runs. Gives the server of the third epoch.
    fn begin(&self, signers: &mut [Signer], genesis: impl FnOnce(&Self)) -> Server {
        let server = self.start();
        self.register(signers);
        self.net.advance_epoch().unwrap();
        self.register(signers);
        server.end();
        genesis(self);
        let server = self.start();
        self.net.advance_epoch().unwrap();
        server
    }

    /// Ticks until each of these types has a certificate of this epoch and an artifact.
    fn certify(&self, signers: &mut [Signer], kinds: &[(&str, &str)]) {
        let epoch = self.net.epoch();
        until("a certificate of every type", || {
            // Until the server has entered the epoch there is nothing to do.
            let _reports: Vec<_> = signers.iter_mut().map(Signer::tick).collect();
            let certificates = self.json("/certificates");
            let of_epoch = certificates.as_array().unwrap().iter().filter(|one| one["epoch"] == *epoch);
            let certified: BTreeSet<_> = of_epoch.map(kind).collect();
            kinds.iter().all(|(kind, route)| {
                certified.contains(*kind) && !self.json(&format!("/artifact/{route}")).as_array().unwrap().is_empty()
            })
        });
    }

    fn metrics(&self) -> String {
        stage::get(&format!("127.0.0.1:{}", self.ports[1]), "/metrics").1
    }

    /// Asks for one of each of what is counted.
    fn use_everything(&self) {
        for (_, route) in KINDS {
            let artifact = self.json(&format!("/artifact/{route}"))[0]["hash"].as_str().unwrap().to_owned();
            self.json(&format!("/artifact/{}/{artifact}", route.trim_end_matches('s')));
        }
        // A database that is not certified is asked for in vain, and counted.
        assert_eq!(self.get("/artifact/cardano-database/unknown").0, 404);
        let certificate = self.json("/certificates")[0]["hash"].as_str().unwrap().to_owned();
        self.json(&format!("/certificate/{certificate}"));
        let transaction =
            self.net.blocks().iter().find_map(|block| block.transactions().first().map(hex::encode)).unwrap();
        let proof = self.json(&format!("/proof/cardano-transaction?transaction_hashes={transaction}"));
        assert_eq!(proof["certified_transactions"].as_array().unwrap().len(), 1, "{proof}");
        for (what, body) in [
            ("immutable-files-restored", r#"{"nb_immutable_files":3}"#),
            ("ancillary-files-restored", ""),
            ("complete-restoration", ""),
            ("partial-restoration", ""),
        ] {
            let path = format!("/aggregator/statistics/cardano-database/{what}");
            assert_eq!(post(self.ports[0], &path, body), 201, "{what}");
        }
    }

    fn log(&self) -> Vec<Value> {
        let text = self.read("out.log");
        let lines = text.lines().filter(|line| !["Starting server...", "Press Ctrl+C to stop"].contains(line));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }
}

/// The status of a request with a JSON body.
fn post(port: u16, path: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let head = "Host: x\r\nConnection: close\r\nContent-Type: application/json";
    write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn kind(certificate: &Value) -> String {
    let entity = certificate["signed_entity_type"].as_object().unwrap();
    entity.keys().next().unwrap().clone()
}

/// A running server.
struct Server {
    child: Child,
}

impl Server {
    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < END, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// As systemd ends it.
    fn end(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(self.ended().code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// What the guide leaves out because a leader needs it and a follower does not.
const LEADER: [(&str, &str); 5] = [
    ("PROTOCOL_PARAMETERS__K", "5"),
    ("PROTOCOL_PARAMETERS__M", "100"),
    ("PROTOCOL_PARAMETERS__PHI_F", "0.7"),
    ("CARDANO_TRANSACTIONS_SIGNING_CONFIG__SECURITY_PARAMETER", "20"),
    ("CARDANO_TRANSACTIONS_SIGNING_CONFIG__STEP", "15"),
];
/// Types of the guide's example, and where their artifacts are.
const KINDS: [(&str, &str); 3] = [
    ("MithrilStakeDistribution", "mithril-stake-distributions"),
    ("CardanoStakeDistribution", "cardano-stake-distributions"),
    ("CardanoTransactions", "cardano-transactions"),
];
/// The others.
const MORE_KINDS: [(&str, &str); 2] =
    [("CardanoDatabase", "cardano-database"), ("CardanoBlocksTransactions", "cardano-blocks-transactions")];

#[test]
fn a_leader_with_the_guide_s_files_certifies_after_an_offline_genesis() {
    let test = "a_leader_with_the_guide_s_files_certifies_after_an_offline_genesis";
    let Some(host) = Host::new(test, &LEADER, &["LEADER_AGGREGATOR_ENDPOINT"]) else { return };
    let checked = host.done(&["config", "check", "--env-file", "mithril-aggregator.env"]);
    assert!(checked.stdout.contains("would start") && checked.stderr.is_empty(), "{checked:?}");
    let mut signers = host.signers();
    let server = host.begin(&mut signers, |host| {
        host.done(&["genesis", "export", "--target-path", "payload"]);
        let sign = ["genesis", "sign", "--to-sign-payload-path", "payload", "--target-signed-payload-path", "signed"];
        // The key is nowhere near the server: nothing but the payload comes to it.
        host.done(&[&sign[..], &["--genesis-secret-key-path", "keys/genesis.sk"]].concat());
        let key = host.variables["GENESIS_VERIFICATION_KEY"].as_str();
        let import = ["genesis", "import", "--genesis-verification-key", key, "--signed-payload-path"];
        let sealed = host.done(&[&import[..], &["signed"]].concat());
        assert!(sealed.stderr.contains("the genesis certificate"), "{sealed:?}");
        let once = host.run(&[&import[..], &["signed"]].concat());
        assert_eq!((once.code, &once.stderr), (0, &sealed.stderr), "the same genesis twice is one");
        let other = host.run(&[&import[..], &["payload"]].concat());
        // The payload is 64 characters, as a signature is 64 bytes.
        assert!(other.code == 1 && other.stderr.contains("AGG-0016"), "{other:?}");
    });
    for _ in 0..2 {
        host.certify(&mut signers, &KINDS);
        host.net.advance_epoch().unwrap();
    }
    host.certify(&mut signers, &KINDS);
    let verified = host.done(&["verify", &host.url()]);
    assert!(verified.stdout.contains("certificates hold"), "{verified:?}");
    let status = host.done(&["status"]);
    for line in ["network      preprod", &format!("epoch        {} (", *host.net.epoch()), "signers      3 now, 3 in"] {
        assert!(status.stdout.contains(line), "{line}: {status:?}");
    }
    let doctor = host.done(&["doctor"]);
    let found = ["the chain is at epoch 727", "3 pools have stake", "the era of Mithril is pythagoras"];
    assert!(found.iter().all(|found| doctor.stdout.contains(found)), "{doctor:?}");
    host.use_everything();
    // Gauges are told once a second.
    until("gauges", || host.metrics().contains("semel_aggregator_epoch"));
    assert_metrics(&host.metrics(), &guide(test).unwrap());
    server.end();
    assert_log(&host.log());
}

/// All names and help texts of the guide's table.
fn assert_metrics(metrics: &str, guide: &str) {
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| **mithril_aggregator_")?.split_once("**"));
    let rows: Vec<_> = rows.map(|(name, rest)| (name, rest.trim_matches(['|', ' ']))).collect();
    assert_eq!(rows.len(), 25);
    for (name, help) in rows {
        let has_help = metrics.contains(&format!("# HELP mithril_aggregator_{name} {help}\n"));
        assert!(has_help, "{name} {help}:\n{metrics}");
    }
    let number = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("mithril_aggregator_{name}_since_startup")));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    // Three epochs of three types; one more may have come for transactions.
    assert!(number("certificate_total_produced") >= 9);
    assert_eq!(number("artifact_mithril_stake_distribution_total_produced"), 3);
    let cycles = (number("runtime_cycle_success"), number("runtime_cycle_total"));
    assert!(cycles.0 > 0 && cycles.0 <= cycles.1, "{cycles:?}");
}

/// Lines as the guide's reader finds them in the log, with the levels of `-vvv`.
fn assert_log(log: &[Value]) {
    for line in log {
        for field in ["msg", "v", "name", "level", "time", "hostname", "pid", "src"] {
            assert!(!line[field].is_null(), "{field}: {line}");
        }
        assert!(line["name"] == "mithril-aggregator" && line["level"].as_u64().unwrap() >= 20, "{line}");
    }
    let said = |words: &str| log.iter().any(|line| line["msg"].as_str().unwrap().contains(words));
    for words in ["the API is served", "certificate sealed", "artifact made", "stopping: SIGTERM", "stopped"] {
        assert!(said(words), "{words}: {log:#?}");
    }
}

#[test]
fn a_leader_with_a_key_of_its_own_certifies_every_type_after_a_bootstrap() {
    let test = "a_leader_with_a_key_of_its_own_certifies_every_type_after_a_bootstrap";
    let all = "MithrilStakeDistribution,CardanoStakeDistribution,CardanoDatabase,CardanoTransactions,CardanoBlocksTransactions";
    let more = [
        ("SIGNED_ENTITY_TYPES", all),
        ("CARDANO_BLOCKS_TRANSACTIONS_SIGNING_CONFIG__SECURITY_PARAMETER", "20"),
        ("CARDANO_BLOCKS_TRANSACTIONS_SIGNING_CONFIG__STEP", "15"),
    ];
    let Some(host) = Host::new(test, &[&LEADER[..], &more].concat(), &["LEADER_AGGREGATOR_ENDPOINT"]) else { return };
    let kinds = [&KINDS[..], &MORE_KINDS].concat();
    let mut signers = host.signers();
    let server = host.begin(&mut signers, |host| {
        let secret = host.read("keys/genesis.sk");
        let sealed = host.done(&["genesis", "bootstrap", "--genesis-secret-key", secret.trim()]);
        assert!(sealed.stderr.contains("the genesis certificate"), "{sealed:?}");
    });
    host.certify(&mut signers, &kinds);
    host.net.advance_epoch().unwrap();
    host.certify(&mut signers, &kinds);
    // A server that is started again goes on with the same chain.
    server.end();
    let before = host.done(&["verify", "stores", "--json"]);
    let server = host.start();
    host.net.advance_epoch().unwrap();
    host.certify(&mut signers, &kinds);
    let after = host.done(&["verify", &host.url(), "--json"]);
    let parse = |ran: &Ran| serde_json::from_str::<Value>(&ran.stdout).unwrap();
    let (before, after) = (parse(&before), parse(&after));
    assert_eq!((&before["genesis"], &before["genesis_epoch"]), (&after["genesis"], &after["genesis_epoch"]));
    assert!(before["certificates"].as_u64().unwrap() < after["certificates"].as_u64().unwrap(), "{before} {after}");
    // With the key of another network nothing of it is believed.
    let other = host.read("keys/ancillary/genesis.vk");
    let refused = host.run(&["verify", &host.url(), "--genesis-verification-key", other.trim()]);
    assert!(refused.code == 1 && refused.stderr.contains("AGG-0012"), "{refused:?}");
    let databases = host.json("/artifact/cardano-database");
    let beacon = &databases[0]["beacon"];
    assert_eq!(beacon["epoch"], *host.net.epoch(), "{databases}");
    server.end();
    let gone = host.run(&["status"]);
    assert!(gone.code == 1 && gone.stderr.contains("AGG-0013"), "{gone:?}");
}

#[test]
fn the_guide_s_follower_starts_and_says_that_it_does_not_follow() {
    let test = "the_guide_s_follower_starts_and_says_that_it_does_not_follow";
    let Some(host) = Host::new(test, &[], &[]) else { return };
    assert!(host.variables["LEADER_AGGREGATOR_ENDPOINT"].starts_with("https://"));
    let server = host.start();
    let features = host.json("");
    assert!(features["capabilities"]["signed_entity_types"].is_array(), "{features}");
    until("a word about it", || {
        let warnings = host.read("out.log");
        warnings.contains("following a leader is not part of this version")
    });
    let certificates = host.json("/certificates");
    assert_eq!(certificates, serde_json::json!([]));
    server.end();
    let warned = host.log().iter().filter(|line| line["level"] == 40).count();
    assert!(warned > 0, "{:#?}", host.log());
}
