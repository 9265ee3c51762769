//! The command line of mithril-aggregator with the real binary: help, options, misuse, configurations, keys, eras.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// A directory with a link to the binary under its other name.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_semel"), directory.path().join("mithril-aggregator")).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        name.to_owned()
    }

    fn run_with(&self, program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.0.path()).env_clear();
        command.envs(variables.iter().copied()).env("COLUMNS", "100");
        let output = command.output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn face(&self, arguments: &[&str]) -> Ran {
        self.run_with(&self.path("mithril-aggregator"), arguments, &[])
    }

    fn semel(&self, arguments: &[&str]) -> Ran {
        let words: Vec<_> = ["aggregator"].iter().chain(arguments).copied().collect();
        self.run_with(Path::new(env!("CARGO_BIN_EXE_semel")), &words, &[])
    }
}

fn guide(test: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/guides/M-mithril-aggregator.md");
    let text = fs::read_to_string(path).ok();
    if text.is_none()
        && let Some(log) = std::env::var_os("SEMEL_SKIP_LOG")
    {
        use std::io::Write as _;
        let mut log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        writeln!(log, "{test}: no guide").unwrap();
    }
    text
}

/// A leader's environment file without its genesis key.
const LEADER: &str = "NETWORK=preview\nCARDANO_NODE_SOCKET_PATH=/ipc\nCARDANO_NODE_VERSION=10.7.1\nPROTOCOL_PARAMETERS__K=5\n\
    PROTOCOL_PARAMETERS__M=100\nPROTOCOL_PARAMETERS__PHI_F=0.7\n";

/// The public key of a genesis.
const GENESIS_KEY: &str = "5b35352c3232382c3134342c38372c3133382c3133362c34382c382c31342c3138372c38352c3134382c39372c3233322c3235352c3232392c33382c3234342c3234372c3230342c3139382c31332c33312c3232322c32352c3136342c35322c3130322c39312c3132302c3230382c3134375d";

#[test]
fn the_help_and_the_version_are_what_the_guide_prints() {
    let stage = Stage::new();
    let golden = include_str!("golden/aggregator-help.txt");
    for arguments in [&["-h"][..], &["--help"], &["help"]] {
        let ran = stage.face(arguments);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, golden, ""), "{arguments:?}");
    }
    let ran = stage.face(&["-V"]);
    let version = ran.stdout.strip_prefix("mithril-aggregator ").unwrap().trim_end();
    assert_eq!((ran.code, version.split('.').filter(|part| part.parse::<u32>().is_ok()).count()), (0, 3));
    if let Some(guide) = guide("the_help_and_the_version_are_what_the_guide_prints") {
        let block = guide.split("```bash\nMithril aggregator node").nth(1).unwrap().split("```").next().unwrap();
        assert_eq!(golden, format!("Mithril aggregator node{block}"));
    }
}

#[test]
fn words_of_our_own_work_under_both_names_and_are_listed_under_one() {
    let stage = Stage::new();
    let listed = stage.semel(&["-h"]).stdout;
    for word in ["protocol-configuration", "config", "verify", "status", "doctor", "registry"] {
        assert!(listed.contains(&format!("\n  {word}")), "{word}");
        assert_eq!(stage.face(&[word, "-h"]).code, 0, "{word}");
    }
    // Those that semel has beside the duties.
    for (words, said) in [
        (&["explain", "AGG-0012"][..], "A certificate does not hold"),
        (&["explain"], "AGG-0012"),
        (&["completions", "bash"], "-o default mithril-aggregator"),
        (&["man"], ".TH mithril-aggregator 1"),
    ] {
        let ran = stage.face(words);
        assert!(ran.code == 0 && ran.stdout.contains(said), "{words:?}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn every_command_has_its_options() {
    let stage = Stage::new();
    for (words, options) in [
        (
            &["serve"][..],
            &[
                "--server-ip <",
                "--server-port <",
                "--snapshot-directory <",
                "--disable-digests-cache",
                "--reset-digests-cache",
                "--allow-unparsable-block",
                "--enable-metrics-server",
                "--metrics-server-ip <",
                "--metrics-server-port <",
                "--leader-aggregator-endpoint <",
                "--certificate-chain-aggregator-endpoint <",
            ][..],
        ),
        (&["genesis", "export"], &["--target-path <", "--mithril-era <"]),
        (&["genesis", "import"], &["--signed-payload-path <", "--genesis-verification-key <", "--mithril-era <"]),
        (
            &["genesis", "sign"],
            &[
                "--to-sign-payload-path <",
                "--target-signed-payload-path <",
                "--genesis-secret-key-path <",
                "--mithril-era <",
            ],
        ),
        (&["genesis", "bootstrap"], &["--genesis-secret-key <", "GENESIS_SECRET_KEY", "--mithril-era <"]),
        (&["genesis", "generate-keypair"], &["--target-path <", "--mithril-era <"]),
        (&["era", "list"], &["--json"]),
        (
            &["era", "generate-tx-datum"],
            &[
                "--target-path <",
                "CURRENT_ERA_EPOCH",
                "NEXT_ERA_EPOCH",
                "--era-markers-secret-key <",
                "ERA_MARKERS_SECRET_KEY",
            ],
        ),
        (&["era", "generate-keypair"], &["--target-path <"]),
        (&["database"], &["\n  migrate", "\n  vacuum", "\n  import"]),
        (&["database", "migrate"], &["--stores-directory <", "STORES_DIRECTORY", "--dry-run"]),
        (&["database", "vacuum"], &["--stores-directory <", "STORES_DIRECTORY", "--dry-run"]),
        (&["database", "import"], &["--from <", "--stores-directory <", "STORES_DIRECTORY", "--dry-run"]),
        (&["tools", "recompute-certificates-hash"], &["--dry-run"]),
        (&["protocol-configuration", "export-markers"], &["--target-path <", "--default"]),
        (
            &["protocol-configuration", "import-markers"],
            &["--import-path <", "--target-path <", "--protocol-configuration-markers-secret-key <"],
        ),
    ] {
        let arguments: Vec<_> = words.iter().chain(&["-h"]).copied().collect();
        let ran = stage.face(&arguments);
        assert_eq!(ran.code, 0, "{words:?}");
        let global = ["--run-mode <", "--verbose", "--db-directory <", "--config-directory <"];
        for option in options.iter().chain(&global) {
            assert!(ran.stdout.contains(option), "{words:?} has no {option}\n{}", ran.stdout);
        }
    }
}

#[test]
fn misuse_ends_with_2_and_says_so_on_stderr() {
    let stage = Stage::new();
    for arguments in [
        &["nonsense"][..],
        &["--nonsense"],
        &["serve", "extra"],
        &["serve", "--server-port", "99999"],
        &["serve", "--server-ip", "nowhere"],
        &["genesis"],
        &["genesis", "export"],
        &["genesis", "generate-keypair", "--target-path", ".", "--mithril-era", "nonsense"],
        &[
            "era",
            "generate-tx-datum",
            "--target-path",
            "x",
            "--current-era-epoch",
            "a",
            "--era-markers-secret-key",
            "b",
        ],
        &["genesis", "bootstrap"],
        &["config", "explain", "NONSENSE"],
        &["config", "init", "--network", "nonsense"],
    ] {
        let ran = stage.face(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn without_a_subcommand_the_server_starts_and_all_errors_come_at_once() {
    let stage = Stage::new();
    for arguments in [&["-vvv"][..], &["-vvv", "serve"], &["serve", "-vvv"], &["serve", "--run-mode", "preview", "-v"]]
    {
        let ran = stage.face(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{arguments:?}");
        for name in
            ["NETWORK is", "CARDANO_NODE_SOCKET_PATH is", "CARDANO_NODE_VERSION is", "GENESIS_VERIFICATION_KEY is"]
        {
            assert_eq!(ran.stderr.matches(name).count(), 1, "{name}: {}", ran.stderr);
        }
    }
}

#[test]
fn the_guide_s_files_and_a_genesis_key_make_a_configuration() {
    let Some(guide) = guide("the_guide_s_files_and_a_genesis_key_make_a_configuration") else { return };
    let stage = Stage::new();
    assert_eq!(stage.face(&["genesis", "generate-keypair", "--target-path", "."]).code, 0);
    let key = fs::read_to_string(stage.path("genesis.vk")).unwrap();
    let blocks: Vec<_> = guide.split("/opt/mithril/mithril-aggregator.env << EOF\n").skip(1).collect();
    let text: String = blocks.iter().skip(3).take(3).map(|block| block.split("EOF").next().unwrap()).collect();
    let file = stage.write("guide.env", &text);
    let ran = stage.face(&["config", "check", "--env-file", &file]);
    assert_eq!(ran.code, 0);
    assert!(
        ran.stderr.contains("CONFIG-0314") && ran.stderr.contains("release-preprod/genesis.vkey"),
        "{}",
        ran.stderr
    );
    let file = stage.write("guide.env", &format!("{text}GENESIS_VERIFICATION_KEY={key}\n"));
    let ran = stage.face(&["config", "check", "--env-file", &file]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("would start"), "{}", ran.stdout);
}

#[test]
fn what_init_prints_lacks_the_genesis_key_only_where_none_is_published() {
    let stage = Stage::new();
    for network in ["mainnet", "preprod", "preview", "devnet"] {
        for role in [&[][..], &["--follower"]] {
            let arguments: Vec<_> = ["config", "init", "--network", network].iter().chain(role).copied().collect();
            let file = stage.write("init.env", &stage.face(&arguments).stdout);
            let ran = stage.face(&["config", "check", "--json", "--env-file", &file]);
            let found: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            let found = found["diagnostics"].as_array().unwrap();
            let (code, said) =
                if network == "devnet" { (1, "is missing") } else { (0, "is not set: the published key") };
            assert_eq!((ran.code, found.len()), (code, 1), "{network} {role:?} {found:?}");
            assert!(found[0]["message"].as_str().unwrap().starts_with(&format!("GENESIS_VERIFICATION_KEY {said}")));
        }
    }
}

#[test]
fn layers_are_shown_with_their_origin_and_secrets_are_not() {
    let stage = Stage::new();
    fs::create_dir(stage.path("config")).unwrap();
    stage.write("config/dev.json", r#"{"server_port": 1234, "db_directory": "/file"}"#);
    let text = format!("{LEADER}DB_DIRECTORY=/env\nANCILLARY_FILES_SIGNER_CONFIG={{\"secret_key\": \"hunter2\"}}\n");
    let file = stage.write("a.env", &text);
    let arguments = ["config", "show", "--origin", "--env-file", &file, "--db-directory", "/flag"];
    for ran in [stage.face(&arguments), stage.semel(&arguments)] {
        assert_eq!(ran.code, 0);
        for line in [
            "SERVER_PORT=1234  # ./config/dev.json",
            "DB_DIRECTORY=/flag  # --db-directory",
            "NETWORK=preview  # a.env:1",
            "RUN_INTERVAL=60000  # default",
            "ANCILLARY_FILES_SIGNER_CONFIG=<hidden>  # a.env:8",
        ] {
            assert!(ran.stdout.lines().any(|shown| shown == line), "{line}\n{}", ran.stdout);
        }
        assert!(!ran.stdout.contains("hunter2"));
    }
}

/// The 32 bytes of a JSON-hex text.
fn json_hex(text: &str) -> [u8; 32] {
    serde_json::from_slice::<Vec<u8>>(&hex::decode(text).unwrap()).unwrap().try_into().unwrap()
}

#[test]
fn a_genesis_payload_is_signed_offline_with_a_generated_key() {
    let stage = Stage::new();
    assert_eq!(
        stage.face(&["genesis", "generate-keypair", "--target-path", ".", "--mithril-era", "pythagoras"]).code,
        0
    );
    let mode = fs::metadata(stage.path("genesis.sk")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let again = stage.face(&["genesis", "generate-keypair", "--target-path", "."]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("KEY-0009"), "{}", again.stderr);
    let payload = "ab".repeat(32);
    stage.write("payload", &payload);
    let sign = |payload: &str, era: &str| {
        stage.face(&[
            "genesis",
            "sign",
            "--to-sign-payload-path",
            payload,
            "--target-signed-payload-path",
            "signed",
            "--genesis-secret-key-path",
            "genesis.sk",
            "--mithril-era",
            era,
        ])
    };
    assert_eq!(sign("payload", "pythagoras").code, 0);
    let signature = Signature::from_slice(&fs::read(stage.path("signed")).unwrap()).unwrap();
    let key = VerifyingKey::from_bytes(&json_hex(&fs::read_to_string(stage.path("genesis.vk")).unwrap())).unwrap();
    assert!(key.verify(payload.as_bytes(), &signature).is_ok());
    let refused = sign("payload", "lagrange");
    assert!(refused.code == 1 && refused.stderr.contains("AGG-0006"), "{}", refused.stderr);
    for bad in ["", "ab", &"AB".repeat(32), &"zz".repeat(32), &"ab".repeat(33), &"ab".repeat(1000)] {
        stage.write("bad", bad);
        let refused = sign("bad", "pythagoras");
        let is_told = refused.stderr.contains("AGG-0004") || refused.stderr.contains("AGG-0001");
        assert!(refused.code == 1 && is_told, "{bad}: {}", refused.stderr);
    }
}

/// The JSON in a datum.
fn payload_of(datum: &Path) -> serde_json::Value {
    let datum: serde_json::Value = serde_json::from_slice(&fs::read(datum).unwrap()).unwrap();
    assert_eq!(datum["constructor"], 0);
    let fields = datum["fields"].as_array().unwrap();
    let hex: String = fields.iter().map(|field| field["bytes"].as_str().unwrap()).collect();
    assert!(fields.iter().all(|field| field["bytes"].as_str().unwrap().len() <= 128));
    serde_json::from_slice(&hex::decode(hex).unwrap()).unwrap()
}

#[test]
fn eras_are_listed_and_announced() {
    let stage = Stage::new();
    assert_eq!(stage.face(&["era", "list", "--json"]).stdout, "[\"pythagoras\",\"lagrange\"]\n");
    assert!(stage.face(&["era", "list"]).stdout.contains("Pythagoras"));
    assert_eq!(stage.face(&["era", "generate-keypair", "--target-path", "."]).code, 0);
    let secret = fs::read_to_string(stage.path("era.sk")).unwrap();
    let key = VerifyingKey::from_bytes(&json_hex(&fs::read_to_string(stage.path("era.vk")).unwrap())).unwrap();
    let face = stage.path("mithril-aggregator");
    let variables = [("CURRENT_ERA_EPOCH", "5"), ("NEXT_ERA_EPOCH", "9"), ("ERA_MARKERS_SECRET_KEY", secret.as_str())];
    let ran = stage.run_with(&face, &["era", "generate-tx-datum", "--target-path", "datum.json"], &variables);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let payload = payload_of(&stage.path("datum.json"));
    let markers = r#"[{"name":"pythagoras","epoch":5},{"name":"lagrange","epoch":9}]"#;
    assert_eq!(payload["markers"].to_string(), markers);
    let signature = hex::decode(payload["signature"].as_str().unwrap()).unwrap();
    assert!(key.verify(markers.as_bytes(), &Signature::from_slice(&signature).unwrap()).is_ok());
    let backwards = [("CURRENT_ERA_EPOCH", "9"), ("NEXT_ERA_EPOCH", "9"), ("ERA_MARKERS_SECRET_KEY", secret.as_str())];
    let refused = stage.run_with(&face, &["era", "generate-tx-datum", "--target-path", "other.json"], &backwards);
    assert!(refused.code == 1 && refused.stderr.contains("AGG-0005"), "{}", refused.stderr);
    assert!(!stage.path("other.json").exists());
    let wrong = [("CURRENT_ERA_EPOCH", "9"), ("ERA_MARKERS_SECRET_KEY", "hunter2")];
    let refused = stage.run_with(&face, &["era", "generate-tx-datum", "--target-path", "other.json"], &wrong);
    assert!(refused.code == 1 && refused.stderr.contains("AGG-0003"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"));
    let help = stage.run_with(&face, &["era", "generate-tx-datum", "-h"], &variables);
    assert!(!help.stdout.contains(&secret), "a secret in the help");
}

#[test]
fn protocol_configurations_are_exported_edited_and_announced() {
    let stage = Stage::new();
    assert_eq!(stage.face(&["era", "generate-keypair", "--target-path", "."]).code, 0);
    let secret = fs::read_to_string(stage.path("era.sk")).unwrap();
    let export = ["protocol-configuration", "export-markers", "--target-path", "edited.json", "--default"];
    assert_eq!(stage.face(&export).code, 0);
    let edited: serde_json::Value = serde_json::from_slice(&fs::read(stage.path("edited.json")).unwrap()).unwrap();
    assert_eq!(edited[0]["protocol_parameters"].to_string(), r#"{"k":2422,"m":20973,"phi_f":0.2}"#);
    let import = |file: &str| {
        stage.face(&[
            "protocol-configuration",
            "import-markers",
            "--import-path",
            file,
            "--target-path",
            "datum.json",
            "--protocol-configuration-markers-secret-key",
            &secret,
            "--force",
        ])
    };
    let ran = import("edited.json");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let payload = payload_of(&stage.path("datum.json"));
    let key = VerifyingKey::from_bytes(&json_hex(&fs::read_to_string(stage.path("era.vk")).unwrap())).unwrap();
    let signature = hex::decode(payload["signature"].as_str().unwrap()).unwrap();
    let signature = Signature::from_slice(&signature).unwrap();
    assert!(key.verify(payload["markers"].to_string().as_bytes(), &signature).is_ok());
    let text = edited.to_string();
    for (from, to) in
        [("\"k\":2422", "\"k\":0"), ("\"phi_f\":0.2", "\"phi_f\":2.0"), ("\"epoch\"", "\"epok\""), ("[{", "{")]
    {
        stage.write("bad.json", &text.replace(from, to));
        let refused = import("bad.json");
        assert!(refused.code == 1 && refused.stderr.contains("AGG-0007"), "{to}: {}", refused.stderr);
    }
    let entry = &edited[0];
    let many: Vec<_> = (0..60)
        .map(|epoch| {
            let mut one = entry.clone();
            one["epoch"] = epoch.into();
            one
        })
        .collect();
    stage.write("many.json", &serde_json::Value::from(many).to_string());
    let refused = import("many.json");
    assert!(refused.stderr.contains("10240 are allowed"), "{}", refused.stderr);
}

#[test]
fn an_aggregator_is_added_to_the_list_of_networks_once() {
    let stage = Stage::new();
    let list = r#"{"preprod": {"mithril-networks": [{"release-preprod": {"aggregators": [{"url": "https://a.example/x"}]}}]}}"#;
    let file = stage.write("networks.json", list);
    let add = |network: &str, endpoint: &str| {
        stage.face(&["registry", "add", "--networks", &file, "--mithril-network", network, "--endpoint", endpoint])
    };
    let ran = add("release-preprod", "https://b.example/aggregator");
    let added: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let aggregators = &added["preprod"]["mithril-networks"][0]["release-preprod"]["aggregators"];
    assert_eq!(aggregators.to_string(), r#"[{"url":"https://a.example/x"},{"url":"https://b.example/aggregator"}]"#);
    for (network, endpoint) in
        [("release-preprod", "https://a.example/x/"), ("release-preprodaggregators", "https://b.example")]
    {
        let refused = add(network, endpoint);
        assert!(refused.code == 1 && refused.stderr.contains("AGG-0011"), "{}", refused.stderr);
    }
    assert_eq!(add("release-preprod", "http://b.example").code, 2);
}

#[test]
fn a_chain_that_is_not_verified_is_told_to_programs_and_hints_fit_what_was_named() {
    let stage = Stage::new();
    assert_eq!(stage.face(&["genesis", "generate-keypair", "--target-path", "."]).code, 0);
    let key = fs::read_to_string(stage.path("genesis.vk")).unwrap();
    let file = stage.write("empty.json", "[]");
    fs::create_dir(stage.path("empty")).unwrap();
    for (whose, hint) in
        [(&*file, "a JSON file"), ("empty", "name a stores directory"), ("http://127.0.0.1:1", "ends with /aggregator")]
    {
        let ran = stage.face(&["verify", whose, "--genesis-verification-key", &key, "--json"]);
        let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((ran.code, &told["holds"], &told["code"]), (1, &false.into(), &"AGG-0013".into()), "{told}");
        assert!(!told["why"].as_str().unwrap().is_empty() && ran.stderr.contains(hint), "{}", ran.stderr);
    }
    // Neither it nor the doctor makes a database, or changes one.
    fs::create_dir(stage.path("stores")).unwrap();
    stage.write("stores/aggregator.sqlite3", "");
    assert_eq!(stage.face(&["database", "migrate", "--stores-directory", "stores"]).code, 0);
    let content = || {
        let files = fs::read_dir(stage.path("stores")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = content();
    let ran = stage.face(&["verify", "stores", "--genesis-verification-key", &key]);
    assert!(ran.code == 1 && ran.stderr.contains("there is no certificate in stores"), "{}", ran.stderr);
    let settings =
        format!("{LEADER}GENESIS_VERIFICATION_KEY={key}\nDATA_STORES_DIRECTORY=stores\nSERVER_IP=127.0.0.1\n");
    let env = stage.write("a.env", &settings);
    let ran =
        stage.run_with(&stage.path("mithril-aggregator"), &["doctor", "--env-file", &env], &[("SEMEL_LEDGER", "led")]);
    for code in ["AGG-0111", "AGG-0116"] {
        assert!(ran.stdout.contains(&format!("  pass  {code}")), "{code}: {}", ran.stdout);
    }
    assert!(ran.stdout.contains("the database holds 0 certificates"), "{}", ran.stdout);
    assert!(!stage.path("led").exists());
    let after = content();
    let names = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        files.iter().map(|(path, bytes)| (path.clone(), bytes.len())).collect::<Vec<_>>()
    };
    assert!(after == before, "{:?} {:?}", names(&before), names(&after));
}

#[test]
fn who_writes_databases_is_alone_and_needs_some() {
    let stage = Stage::new();
    let key = "5b312c322c332c342c352c362c372c382c392c31302c31312c31322c31332c31342c31352c31362c31372c31382c31392c32302c32312c32322c32332c32342c32352c32362c32372c32382c32392c33302c33312c33325d";
    let settings = [
        ("ENVIRONMENT", "Test"),
        ("NETWORK", "devnet"),
        ("NETWORK_MAGIC", "42"),
        ("CHAIN_OBSERVER_TYPE", "fake"),
        ("CARDANO_NODE_VERSION", "10.7.1"),
        ("PROTOCOL_PARAMETERS__K", "5"),
        ("PROTOCOL_PARAMETERS__M", "100"),
        ("PROTOCOL_PARAMETERS__PHI_F", "0.7"),
        ("GENESIS_VERIFICATION_KEY", GENESIS_KEY),
        ("DATA_STORES_DIRECTORY", "stores"),
        ("STORES_DIRECTORY", "stores"),
        ("SEMEL_LEDGER", "ledger"),
        ("SERVER_IP", "127.0.0.1"),
    ];
    let run = |words: &[&str]| stage.run_with(&stage.path("mithril-aggregator"), words, &settings);
    let tools = [&["database", "migrate"][..], &["database", "vacuum"], &["tools", "recompute-certificates-hash"]];
    for words in tools {
        for dry in [&[][..], &["--dry-run"]] {
            let ran = run(&[words, dry].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{words:?}");
            assert!(ran.stderr.contains("there is no database in stores"), "{words:?}: {}", ran.stderr);
            assert!(ran.stderr.contains("AGG-0023"), "{words:?}: {}", ran.stderr);
        }
    }
    assert!(!stage.path("stores").exists());

    fs::create_dir(stage.path("stores")).unwrap();
    stage.write("stores/aggregator.sqlite3", "");
    let lock = fs::File::create(stage.path("stores/aggregator.lock")).unwrap();
    lock.try_lock().unwrap();
    fs::write(stage.path("stores/aggregator.lock"), "`serve`, process 4711").unwrap();
    let bootstrap = ["genesis", "bootstrap", "--genesis-secret-key", key];
    for words in tools.into_iter().chain([&["serve"][..], &bootstrap]) {
        let ran = run(words);
        let said = "the databases in stores are in use by `serve`, process 4711";
        assert_eq!(ran.code, 1, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said) && ran.stderr.contains("AGG-0024"), "{words:?}: {}", ran.stderr);
    }
    let (face, own) =
        (run(&["-V"]).stdout, stage.run_with(Path::new(env!("CARGO_BIN_EXE_semel")), &["-V"], &[]).stdout);
    let first = run(&["-vvv"]).stdout.lines().find(|line| line.starts_with('{')).unwrap().to_owned();
    assert!(first.contains(own.trim_end()) && first.contains(face.trim_end()), "{first}");
    drop(lock);
    for (words, said) in tools.into_iter().zip(["bring the main", "write the main", "change the hashes of 0 of 0"]) {
        let ran = run(&[words, &["--dry-run"]].concat());
        assert!(ran.code == 0 && ran.stderr.contains(said), "{words:?}: {}", ran.stderr);
        assert_eq!(fs::metadata(stage.path("stores/aggregator.sqlite3")).unwrap().len(), 0);
        let ran = run(words);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.stderr);
        stage.write("stores/aggregator.sqlite3", "");
    }
}
