//! Settings from environments, files and options: precedence, kinds, and what is told about mistakes.

use super::*;
use crate::host::store;
use proptest::prelude::*;
use std::fs;

const KEY: &str = "5b35352c3232382c3134342c38372c3133382c3133362c34382c382c31342c3138372c38352c3134382c39372c3233322c3235352c3232392c33382c3234342c3234372c3230342c3139382c31332c33312c3232322c32352c3136342c35322c3130322c39312c3132302c3230382c3134375d";
const ADDRESS: &str =
    "addr_test1qpkyv2ws0deszm67t840sdnruqgr492n80g3y96xw3p2ksk6suj5musy6w8lsg3yjd09cnpgctc2qh386rtxphxt248qr0npnx";

/// An environment that a leader can start with.
fn leader() -> Vec<(String, String)> {
    let pairs = [
        ("NETWORK", "preview"),
        ("CARDANO_NODE_SOCKET_PATH", "/ipc/node.socket"),
        ("CARDANO_NODE_VERSION", "10.7.1"),
        ("PROTOCOL_PARAMETERS__K", "5"),
        ("PROTOCOL_PARAMETERS__M", "100"),
        ("PROTOCOL_PARAMETERS__PHI_F", "0.70"),
        ("GENESIS_VERIFICATION_KEY", KEY),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

fn with(changes: &[(&str, &str)]) -> Outcome<Settings> {
    let mut variables = leader();
    for (name, value) in changes {
        variables.retain(|(known, _)| known != name);
        variables.push(((*name).to_owned(), (*value).to_owned()));
    }
    Settings::read(Layers::read(Path::new("/nowhere"), "dev", &Surroundings::Given(variables)))
}

fn read(changes: &[(&str, &str)]) -> Settings {
    let outcome = with(changes);
    outcome.value.unwrap_or_else(|| panic!("{}", outcome.found))
}

/// Codes of errors, in the order of their places.
fn errors(changes: &[(&str, &str)]) -> Vec<&'static str> {
    let outcome = with(changes);
    assert_eq!(outcome.value.is_none(), outcome.found.has_errors());
    let all = outcome.found.sorted().into_iter();
    all.filter(|one| one.severity == semel_ops::config::Severity::Error).map(|one| one.code.id).collect()
}

fn env_file(text: &str) -> (tempfile::TempDir, Outcome<Settings>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.env");
    fs::write(&path, text).unwrap();
    let outcome = Settings::read(Layers::read(directory.path(), "dev", &Surroundings::EnvFile(path)));
    (directory, outcome)
}

/// The environment files of the guide: 3 with names in place of values, then the same with an example's values.
fn guide() -> Option<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/guides/M-mithril-aggregator.md");
    let Ok(text) = fs::read_to_string(path) else {
        if let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
            use std::io::Write as _;
            let mut log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
            writeln!(log, "settings of the guide: no guide").unwrap();
        }
        return None;
    };
    let blocks = text.split("/opt/mithril/mithril-aggregator.env << EOF\n").skip(1);
    Some(blocks.map(|block| block.split("EOF").next().unwrap().to_owned()).collect())
}

#[test]
fn defaults_are_those_of_the_table() {
    let settings = read(&[]);
    assert_eq!(settings.http.address, "0.0.0.0:8080".parse().unwrap());
    assert_eq!(settings.http.public_url.as_str(), "http://0.0.0.0:8080/aggregator/");
    assert_eq!(settings.run_interval, Duration::from_secs(60));
    assert_eq!((settings.metrics, settings.retention_epochs, settings.dmq), (None, None, None));
    assert_eq!(settings.base.db_directory, Path::new("/db"));
    assert_eq!(settings.base.era_reader, EraReader::Bootstrap);
    assert_eq!(settings.entities.types, BTreeSet::from([SignedEntityTypeDiscriminants::MithrilStakeDistribution]));
    assert_eq!(
        (settings.entities.transactions.security_parameter.0, settings.entities.transactions.step.0),
        (3000, 120)
    );
    assert_eq!(settings.artifacts.compression, Compression::Zstandard { level: 9, workers: 4 });
    assert!(matches!(settings.artifacts.uploader, Uploader::Local));
    assert_eq!(settings.role, Role::Leader { parameters: ProtocolParameters::new(5, 100, 0.7) });
}

#[test]
fn later_layers_win_setting_by_setting_and_empty_wins_over_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = r#"{"server_port": 1, "run_interval": "2000", "db_directory": "/file", "snapshot_directory": "/file",
        "protocol_parameters": {"k": 7, "m": 70, "phi_f": 0.5}, "signed_entity_types": ["CardanoDatabase"], "server_ip": null,
        "snapshot_uploader_type": "local", "ancillary_files_signer_config": {"type": "secret-key", "secret_key": "SECRET"}}"#;
    let file = file.replace("SECRET", &"07".repeat(32));
    fs::write(directory.path().join("preview.json"), file).unwrap();
    let mut variables = leader();
    variables.retain(|(name, _)| !name.starts_with("PROTOCOL_PARAMETERS"));
    for (name, value) in
        [("DB_DIRECTORY", "/env"), ("SERVER_PORT", "2"), ("RUN_INTERVAL", ""), ("PROTOCOL_PARAMETERS__K", "9")]
    {
        variables.push((name.to_owned(), value.to_owned()));
    }
    let globals = Globals {
        run_mode: "preview".into(),
        verbose: 0,
        db_directory: Some("/flag".into()),
        config_directory: directory.path().to_owned(),
    };
    let serve = Serve { server_port: Some(3), enable_metrics_server: true, ..Serve::default() };
    let layers = Layers::of(&globals, Some(&serve), &Surroundings::Given(variables));
    let origins: std::collections::BTreeMap<_, _> =
        layers.shown().into_iter().filter_map(|(row, value)| Some((row.key, value?.1))).collect();
    assert_eq!(origins["server_port"], Origin::Flag("--server-port"));
    assert_eq!(origins["db_directory"], Origin::Flag("--db-directory"));
    assert_eq!(origins["protocol_parameters.k"], Origin::Environment);
    assert_eq!(origins["run_interval"], Origin::File(directory.path().join("preview.json")));
    assert_eq!(origins["server_ip"], Origin::Default);
    let outcome = Settings::read(layers);
    let settings = outcome.value.unwrap_or_else(|| panic!("{}", outcome.found));
    assert_eq!((settings.http.address.port(), settings.run_interval.as_secs()), (3, 2));
    assert_eq!(settings.base.db_directory, Path::new("/flag"));
    assert_eq!(settings.artifacts.directory, Path::new("/file"));
    assert_eq!(settings.base.protocol_parameters, Some(ProtocolParameters::new(9, 70, 0.5)));
    assert!(settings.entities.types.contains(&SignedEntityTypeDiscriminants::CardanoDatabase));
    assert_eq!(settings.metrics, Some("0.0.0.0:9090".parse().unwrap()));
}

#[test]
fn tls_needs_a_certificate_and_its_key_and_makes_the_url_https() {
    let (certificate, key) = (("SERVER_TLS_CERTIFICATE_PATH", "/c.pem"), ("SERVER_TLS_KEY_PATH", "/k.pem"));
    let settings = read(&[certificate, key]);
    assert_eq!(settings.http.tls.unwrap().key, Path::new("/k.pem"));
    assert_eq!(settings.http.public_url.scheme(), "https");
    assert!(read(&[]).http.tls.is_none());
    for half in [certificate, key] {
        assert_eq!(errors(&[half]), ["CONFIG-0310"]);
    }
}

#[test]
fn truth_values_are_spelt_in_eight_ways_and_in_no_others() {
    for (said, expected) in
        [("true", true), ("1", true), ("YES", true), ("on", true), ("off", false), ("0", false), ("No", false)]
    {
        assert_eq!(read(&[("RESET_DIGESTS_CACHE", said)]).reset_digests_cache, expected, "{said}");
    }
    assert_eq!(errors(&[("RESET_DIGESTS_CACHE", "maybe")]), ["CONFIG-0305"]);
}

#[test]
fn one_json_text_sets_a_structure_and_later_fields_change_it() {
    let settings = read(&[
        ("PROTOCOL_PARAMETERS", r#"{"k": 1, "m": 2, "phi_f": 0.5}"#),
        ("PROTOCOL_PARAMETERS__K", "2"),
        ("PROTOCOL_PARAMETERS__M", ""),
        ("PROTOCOL_PARAMETERS__PHI_F", ""),
    ]);
    assert_eq!(settings.base.protocol_parameters, Some(ProtocolParameters::new(2, 2, 0.5)));
    assert_eq!(errors(&[("PROTOCOL_PARAMETERS", r#"{"q": 1}"#)]), ["CONFIG-0309"]);
    let settings = read(&[
        ("BLOCKFROST_PARAMETERS", r#"{"project_id": "p"}"#),
        ("BLOCKFROST_PARAMETERS__BASE_URL", "https://example.com"),
    ]);
    let blockfrost = settings.blockfrost.unwrap();
    assert_eq!((blockfrost.project_id.expose(), blockfrost.base_url.unwrap().as_str()), ("p", "https://example.com/"));
}

#[test]
fn the_order_of_variables_means_nothing_but_of_two_the_later_one_counts() {
    let text = format!(
        "BLOCKFROST_PARAMETERS__BASE_URL=https://example.com\nBLOCKFROST_PARAMETERS={{\"project_id\": \"p\"}}\n\
        GENESIS_VERIFICATION_KEY={KEY}\nCARDANO_NODE_SOCKET_PATH=/ipc\nCARDANO_NODE_VERSION=10.7.1\nPROTOCOL_PARAMETERS__K=3\n\
        PROTOCOL_PARAMETERS={{\"k\": 1, \"m\": 9, \"phi_f\": 0.5}}\nNETWORK=preprod\nNETWORK=preview\n"
    );
    let (_kept, outcome) = env_file(&text);
    let settings = outcome.value.unwrap_or_else(|| panic!("{}", outcome.found));
    assert_eq!(settings.blockfrost.unwrap().base_url.unwrap().as_str(), "https://example.com/");
    assert_eq!(settings.base.protocol_parameters, Some(ProtocolParameters::new(3, 9, 0.5)));
    assert_eq!(settings.base.network_name, NetworkName::Preview);
}

#[test]
fn networks_have_their_magic_and_a_private_one_needs_its_own() {
    for (said, name, magic) in [
        ("mainnet", NetworkName::Mainnet, 764_824_073),
        ("PreProd", NetworkName::Preprod, 1),
        ("preview", NetworkName::Preview, 2),
        ("devnet", NetworkName::Devnet, 42),
    ] {
        let base = read(&[("NETWORK", said), ("NETWORK_MAGIC", "7")]).base;
        assert_eq!((base.network_name, base.network.magic_id()), (name, magic));
    }
    let base = read(&[("NETWORK", "private"), ("NETWORK_MAGIC", "7")]).base;
    assert_eq!((base.network.magic_id(), base.network_name.to_string()), (7, "private".to_owned()));
    assert_eq!(errors(&[("NETWORK", "private")]), ["CONFIG-0310"]);
    assert_eq!(errors(&[("NETWORK", "testnet")]), ["CONFIG-0307"]);
    assert_eq!(errors(&[("NETWORK", "")]), ["CONFIG-0310"]);
}

#[test]
fn public_urls_end_with_a_slash_with_and_without_a_path() {
    for (said, expected) in [
        ("https://a.example/aggregator", "https://a.example/aggregator/"),
        ("https://a.example/aggregator/", "https://a.example/aggregator/"),
        ("https://a.example", "https://a.example/"),
        ("http://a.example:81/x/y", "http://a.example:81/x/y/"),
    ] {
        assert_eq!(read(&[("PUBLIC_SERVER_URL", said)]).http.public_url.as_str(), expected);
    }
    for bad in ["aggregator.example.com", "ftp://a.example", "https://"] {
        assert_eq!(errors(&[("PUBLIC_SERVER_URL", bad)]), ["CONFIG-0305"], "{bad}");
    }
}

#[test]
fn a_leader_has_parameters_and_a_follower_a_leader() {
    let follower = read(&[("LEADER_AGGREGATOR_ENDPOINT", "https://l.example/aggregator")]);
    let Role::Follower { leader, chain } = follower.role else { panic!("a leader") };
    assert_eq!(leader, chain);
    let two = read(&[
        ("LEADER_AGGREGATOR_ENDPOINT", "https://l.example/aggregator"),
        ("CERTIFICATE_CHAIN_AGGREGATOR_ENDPOINT", "https://c.example/aggregator"),
    ]);
    assert!(matches!(two.role, Role::Follower { chain, .. } if chain.host_str() == Some("c.example")));
    assert_eq!(errors(&[("CERTIFICATE_CHAIN_AGGREGATOR_ENDPOINT", "https://c.example/")]), ["CONFIG-0312"]);
    let none = [("PROTOCOL_PARAMETERS__K", ""), ("PROTOCOL_PARAMETERS__M", ""), ("PROTOCOL_PARAMETERS__PHI_F", "")];
    assert_eq!(errors(&none), ["CONFIG-0310"]);
    assert_eq!(errors(&none[..1]), ["CONFIG-0310"]);
    for (name, value, code) in [
        ("PROTOCOL_PARAMETERS__K", "101", "CONFIG-0312"),
        ("PROTOCOL_PARAMETERS__K", "0", "CONFIG-0306"),
        ("PROTOCOL_PARAMETERS__PHI_F", "0", "CONFIG-0306"),
        ("PROTOCOL_PARAMETERS__PHI_F", "1.1", "CONFIG-0306"),
        ("PROTOCOL_PARAMETERS__PHI_F", "NaN", "CONFIG-0306"),
        ("PROTOCOL_PARAMETERS__PHI_F", "much", "CONFIG-0305"),
    ] {
        assert_eq!(errors(&[(name, value)]), [code], "{name}={value}");
    }
}

#[test]
fn unknown_and_retired_types_are_told_and_left_out() {
    let outcome = with(&[("SIGNED_ENTITY_TYPES", "CardanoImmutableFilesFull, CardanoTransactions,Nonsense")]);
    let codes: Vec<_> = outcome.found.sorted().into_iter().map(|one| one.code.id).collect();
    assert_eq!(codes, ["CONFIG-0311", "CONFIG-0307"]);
    let entities = outcome.value.unwrap().entities;
    assert!(entities.wants_retired);
    use SignedEntityTypeDiscriminants as Entity;
    assert_eq!(entities.types, BTreeSet::from([Entity::MithrilStakeDistribution, Entity::CardanoTransactions]));
}

#[test]
fn gzip_is_zstandard_unless_it_is_demanded() {
    let outcome = with(&[("SNAPSHOT_COMPRESSION_ALGORITHM", "gzip")]);
    assert_eq!(outcome.found.warnings(), 1);
    assert!(matches!(outcome.value.unwrap().artifacts.compression, Compression::Zstandard { .. }));
    let demanded = [("SNAPSHOT_COMPRESSION_ALGORITHM", "gzip"), ("SNAPSHOT_GZIP_COMPATIBILITY", "true")];
    assert_eq!(read(&demanded).artifacts.compression, Compression::Gzip);
    assert_eq!(errors(&[("ZSTANDARD_PARAMETERS__LEVEL", "23")]), ["CONFIG-0306"]);
}

#[test]
fn an_s3_bucket_has_a_key_and_perhaps_an_address() {
    let secret = format!(r#"{{"type": "secret-key", "secret_key": "{}"}}"#, "07".repeat(32));
    let base = [
        ("SIGNED_ENTITY_TYPES", "CardanoDatabase"),
        ("SNAPSHOT_UPLOADER_TYPE", "s3"),
        ("ANCILLARY_FILES_SIGNER_CONFIG", &secret),
    ];
    assert_eq!(errors(&base), ["CONFIG-0310"; 3]);
    let key = [
        ("SNAPSHOT_BUCKET_NAME", "b"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ("AWS_ENDPOINT_URL", "http://minio:9000"),
    ];
    let base = [&base[..], &key].concat();
    let Uploader::S3 { bucket, endpoint, region, secret_access_key, public_url, .. } = read(&base).artifacts.uploader
    else {
        panic!("it is S3")
    };
    assert_eq!((bucket.as_str(), endpoint.as_deref(), region.as_str()), ("b", Some("http://minio:9000"), "us-east-1"));
    assert_eq!((secret_access_key.expose(), public_url), ("hunter2", None));
    for wrong in ["minio:9000", "https://cdn.example.com/?a=b", "https://user@cdn.example.com"] {
        assert_eq!(errors(&[&base[..], &[("SNAPSHOT_PUBLIC_URL", wrong)]].concat()), ["CONFIG-0306"], "{wrong}");
    }
}

#[test]
fn who_certifies_the_database_needs_a_signer_and_a_place() {
    let database = ("SIGNED_ENTITY_TYPES", "CardanoDatabase");
    let missing = errors(&[database]);
    assert_eq!(missing, ["CONFIG-0310"; 3]);
    let local = ("SNAPSHOT_UPLOADER_TYPE", "local");
    let secret = format!(r#"{{"type": "secret-key", "secret_key": "{}"}}"#, "07".repeat(32));
    let settings = read(&[database, local, ("ANCILLARY_FILES_SIGNER_CONFIG", &secret)]);
    assert!(matches!(settings.artifacts.ancillary_signer, Some(AncillarySigner::SecretKey(_))));
    let kms = r#"{"type": "gcp-kms", "resource_name": "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "credentials_json_env_var": "GOOGLE_APPLICATION_CREDENTIALS_GCP_KMS_JSON"}"#;
    let credentials = ("GOOGLE_APPLICATION_CREDENTIALS_GCP_KMS_JSON", "{}");
    let settings = read(&[database, local, ("ANCILLARY_FILES_SIGNER_CONFIG", kms), credentials]);
    assert!(matches!(settings.artifacts.ancillary_signer, Some(AncillarySigner::GcpKms { .. })));
    assert_eq!(errors(&[database, local, ("ANCILLARY_FILES_SIGNER_CONFIG", kms)]), ["CONFIG-0312"]);
    for (bad, code) in [
        (r#"{"type": "secret-key"}"#, "CONFIG-0309"),
        (r#"{"type": "secret-key", "secret_key": "x"}"#, "CONFIG-0313"),
        (r#"{"type": "other"}"#, "CONFIG-0309"),
        ("[]", "CONFIG-0309"),
        ("{", "CONFIG-0308"),
    ] {
        assert_eq!(errors(&[database, local, ("ANCILLARY_FILES_SIGNER_CONFIG", bad)]), [code], "{bad}");
    }
}

#[test]
fn adapters_of_eras_have_their_parameters() {
    let chain = format!(r#"{{"address": "{ADDRESS}", "verification_key": "{KEY}"}}"#);
    let reader = |kind, params| {
        read(&[("ERA_READER_ADAPTER_TYPE", kind), ("ERA_READER_ADAPTER_PARAMS", params)]).base.era_reader
    };
    assert!(matches!(reader("cardano-chain", &chain), EraReader::CardanoChain(place) if place.address == ADDRESS));
    assert_eq!(reader("file", r#"{"markers_file": "/m"}"#), EraReader::File("/m".into()));
    let dummy = reader("dummy", r#"{"markers": [{"name": "pythagoras", "epoch": 1}]}"#);
    assert!(matches!(dummy, EraReader::Dummy(markers) if markers.len() == 1));
    assert_eq!(reader("bootstrap-latest", ""), EraReader::BootstrapLatest);
    for (kind, params, code) in [
        ("cardano-chain", "", "CONFIG-0310"),
        ("cardano-chain", r#"{"address": "x", "verification_key": "y"}"#, "CONFIG-0309"),
        ("cardano-chain", r#"{"address"}"#, "CONFIG-0308"),
        ("dummy", "{}", "CONFIG-0309"),
        ("file", "{}", "CONFIG-0309"),
        ("Bootstrap", "", "CONFIG-0307"),
    ] {
        let found = errors(&[("ERA_READER_ADAPTER_TYPE", kind), ("ERA_READER_ADAPTER_PARAMS", params)]);
        assert_eq!(found.first(), Some(&code), "{kind} {params}");
    }
}

#[test]
fn unparsable_blocks_are_never_allowed_where_it_matters() {
    let asked = |network| with(&[("NETWORK", network), ("ALLOW_UNPARSABLE_BLOCK", "true")]);
    for (network, allowed) in [("mainnet", false), ("preprod", false), ("preview", true), ("devnet", true)] {
        let outcome = asked(network);
        assert_eq!(outcome.found.warnings(), usize::from(!allowed));
        assert_eq!(outcome.value.unwrap().import.allow_unparsable_block, allowed, "{network}");
    }
}

#[test]
fn versions_and_retention_have_their_bounds() {
    for (said, numbers) in [("10.5.0", (10, 5, 0)), ("10.7.1-pre.2", (10, 7, 1)), ("10.5.0+x", (10, 5, 0))] {
        assert_eq!(NodeVersion::parse(said).unwrap().numbers, numbers);
    }
    for bad in ["", "10", "10.5", "10.5.0.1", "10.05.0", "a.b.c", "10.5.0-", "10.5.0-é", "-1.0.0"] {
        assert_eq!(NodeVersion::parse(bad), None, "{bad}");
    }
    for (said, kept) in [("0", Some(3)), ("2", Some(3)), ("5", Some(5)), ("", None)] {
        assert_eq!(read(&[("STORE_RETENTION_LIMIT", said)]).retention_epochs, kept, "{said}");
    }
}

#[test]
fn a_variable_that_is_nearly_known_is_told_and_others_are_not() {
    for (name, meant) in [
        ("RUN_INTERVALL", Some("RUN_INTERVAL")),
        ("ZSTANDARD_PARAMETERS_LEVEL", Some("ZSTANDARD_PARAMETERS__LEVEL")),
        ("PROTOCOL_PARAMETERS__PHIF", Some("PROTOCOL_PARAMETERS__PHI_F")),
        ("CARDANO_NODE_SOKET_PATH", Some("CARDANO_NODE_SOCKET_PATH")),
        ("PATH", None),
        ("RUST_LOG", None),
        ("HOSTNAME", None),
        ("GENESIS_SECRET_KEY", None),
        ("GOOGLE_APPLICATION_CREDENTIALS", None),
    ] {
        let outcome = with(&[(name, "a-secret-perhaps")]);
        let text = outcome.found.to_text();
        assert_eq!(outcome.found.warnings(), usize::from(meant.is_some()), "{name}: {text}");
        assert!(meant.is_none_or(|meant| text.contains(&format!("did you mean {meant}?"))), "{text}");
        assert!(!text.contains("a-secret-perhaps"), "{text}");
    }
}

#[test]
fn the_guide_s_files_lack_the_genesis_key_whose_published_one_counts_and_nothing_else() {
    let Some(blocks) = guide() else { return };
    assert!(blocks.len() >= 6);
    let (base, database, transactions) = (&blocks[3], &blocks[4], &blocks[5]);
    for text in [base.clone(), format!("{base}{database}"), format!("{base}{database}{transactions}")] {
        let (_kept, outcome) = env_file(&text);
        let found = outcome.found.sorted();
        assert_eq!(found.len(), 1, "{}", outcome.found);
        assert!(
            found[0].message.starts_with("GENESIS_VERIFICATION_KEY is not set: the published key of release-preprod")
        );
        assert!(found[0].hint.as_ref().unwrap().ends_with("release-preprod/genesis.vkey"));
        assert!(outcome.value.is_some());
        let (_kept, outcome) = env_file(&format!("{text}GENESIS_VERIFICATION_KEY={KEY}\n"));
        assert!(outcome.found.is_empty(), "{}", outcome.found);
        let settings = outcome.value.unwrap();
        assert!(matches!(settings.role, Role::Follower { .. }));
        assert!(matches!(settings.base.era_reader, EraReader::CardanoChain(_)));
        assert_eq!(settings.dmq.unwrap().socket, Path::new("/dmq/ipc/node.socket"));
        assert_eq!(settings.retention_epochs, Some(5));
        assert_eq!(settings.http.origin_tags.len(), 4);
    }
}

#[test]
fn every_variable_that_the_guide_names_is_known() {
    let Some(blocks) = guide() else { return };
    let mut names = BTreeSet::new();
    for block in &blocks {
        for one in env_file::parse(block).assignments {
            let key = one.name.to_lowercase().replace("__", ".");
            assert!(find(&key).is_some(), "{}", one.name);
            names.insert(one.name);
        }
    }
    assert_eq!(names.len(), 17 + 11 + 2 + 3, "{names:?}");
}

#[test]
fn an_error_inside_json_has_its_place_in_the_file() {
    let text = "# x\nERA_READER_ADAPTER_TYPE=cardano-chain\nERA_READER_ADAPTER_PARAMS='{\"address\": \"a\" oops}'\n";
    let (_kept, outcome) = env_file(text);
    let found = outcome.found.sorted().into_iter().find(|one| one.code.id == "CONFIG-0308").unwrap();
    assert_eq!((found.place.line(), found.place.column()), (3, 44));
    assert!(found.place.shown().chars().skip(43).collect::<String>().starts_with("oops"));
}

#[test]
fn a_wrong_field_inside_json_has_its_place_in_the_file() {
    let text = format!(
        "ERA_READER_ADAPTER_TYPE=cardano-chain\nERA_READER_ADAPTER_PARAMS={{\"address\": \"{ADDRESS}\", \"verification_key\": \"00\"}}\n"
    );
    let (_kept, outcome) = env_file(&text);
    let found = outcome.found.sorted().into_iter().find(|one| one.code.id == "CONFIG-0313").unwrap();
    let column = text.lines().nth(1).unwrap().find("\"verification_key\"").unwrap() + 1;
    assert_eq!((found.place.line(), found.place.column(), found.place.width()), (2, column, 18));
}

#[test]
fn a_backslash_that_systemd_takes_away_is_named() {
    let text = "ANCILLARY_FILES_SIGNER_CONFIG={\"type\": \"secret-key\\\"\", \"secret_key\": \"hunter2\"}\n";
    let (_kept, outcome) = env_file(text);
    let shown = outcome.found.to_text();
    assert!(shown.contains("systemd took a backslash away"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn no_secret_is_shown_wherever_it_stands() {
    for text in [
        "ANCILLARY_FILES_SIGNER_CONFIG={\"type\": \"secret-key\", \"secret_key\": \"hunter2\"}\nSIGNED_ENTITY_TYPES=CardanoDatabase\n",
        "ANCILLARY_FILES_SIGNER_CONFG={\"secret_key\": \"hunter2\"}\n",
        "ANCILLARY_FILES_SIGNER_CONFIG={\n\"secret_key\": \"hunter2\"\n\"secret\": \"hunter2=\"}\n",
        "export GOOGLE_APPLICATION_CREDENTIALS_JSON={\"private_key\": \"hunter2\"}\n",
        "GOOGLE_APPLICATION_CREDENTIALS_JSON=hunter2\nSIGNED_ENTITY_TYPES=CardanoDatabase\nSNAPSHOT_BUCKET_NAME=b\n",
        "NETWORK=\"preprod\nGENESIS_SECRET_KEY=hunter2\n",
        "BLOCKFROST_PARAMETERS={\"project_id\": \"hunter2\"\n",
        "BLOCKFROST_PARAMETERS__PROJECT_ID=hunter2\nBLOCKFROST_PARAMETERS__BASE_URL=x\n",
    ] {
        let (_kept, outcome) = env_file(text);
        assert!(outcome.found.has_errors());
        let shown = format!("{}{}{:?}", outcome.found.to_text(), outcome.found.to_json(), outcome.value);
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
    }
    let settings = read(&[("BLOCKFROST_PARAMETERS", r#"{"project_id": "hunter2"}"#)]);
    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn files_that_cannot_be_read_are_errors_and_a_missing_configuration_file_is_none() {
    let missing =
        Settings::read(Layers::read(Path::new("/nowhere"), "dev", &Surroundings::EnvFile("/nowhere/a.env".into())));
    let codes: Vec<_> = missing.found.sorted().iter().map(|one| one.code.id).collect();
    // What is missing nobody can say.
    assert_eq!(codes, ["CONFIG-0301"]);
    assert!(missing.value.is_none());
    let directory = tempfile::tempdir().unwrap();
    for (text, code) in [("{", "CONFIG-0308"), ("[]", "CONFIG-0309"), ("{\"server_port\": {}}", "CONFIG-0305")] {
        fs::write(directory.path().join("dev.json"), text).unwrap();
        let outcome = Settings::read(Layers::read(directory.path(), "dev", &Surroundings::Given(leader())));
        assert_eq!(outcome.found.sorted().first().map(|one| one.code.id), Some(code), "{text}");
    }
    fs::write(directory.path().join("dev.json"), "x".repeat(1024 * 1024 + 1)).unwrap();
    let outcome = Settings::read(Layers::read(directory.path(), "dev", &Surroundings::Given(leader())));
    assert_eq!(outcome.found.sorted().first().map(|one| one.code.id), Some("CONFIG-0301"));
}

#[test]
fn a_test_environment_needs_no_node() {
    for socket in ["", "/ipc"] {
        let base = read(&[("ENVIRONMENT", "Test"), ("CARDANO_NODE_SOCKET_PATH", socket)]).base;
        assert_eq!((base.is_test, base.chain), (true, ChainAccess::Fake));
    }
    assert_eq!(errors(&[("CARDANO_NODE_SOCKET_PATH", "")]), ["CONFIG-0310"]);
    assert_eq!(errors(&[("ENVIRONMENT", "production")]), ["CONFIG-0307"]);
    let cli = read(&[("CHAIN_OBSERVER_TYPE", "cardano-cli"), ("CARDANO_CLI_PATH", "/bin/c")]).base.chain;
    assert!(matches!(cli, ChainAccess::CardanoCli { program, .. } if program == Path::new("/bin/c")));
}

proptest! {
    #[test]
    fn whatever_is_in_a_file_no_secret_is_shown(lines in prop::collection::vec(
        ("[ \t]?(export )?", prop::sample::select(vec![
            "ANCILLARY_FILES_SIGNER_CONFIG", "BLOCKFROST_PARAMETERS", "BLOCKFROST_PARAMETERS__PROJECT_ID", "BLOCKFROST_PARAMETRS",
            "GOOGLE_APPLICATION_CREDENTIALS_JSON", "GENESIS_SECRET_KEY", "NETWORK", "SIGNED_ENTITY_TYPES", "PROTOCOL_PARAMETERS",
            "ERA_READER_ADAPTER_PARAMS", "SERVER_PORT", "\"private_key\"",
        ]), "[=:]?[\"'{\\\\ ,]{0,4}", "[\"'}\\\\ ,\n]{0,4}"), 1..6)
    ) {
        let public = ["NETWORK", "SIGNED_ENTITY_TYPES", "PROTOCOL_PARAMETERS", "ERA_READER_ADAPTER_PARAMS", "SERVER_PORT"];
        let text: String = lines.iter().map(|(before, name, noise, after)| {
            let value = if public.contains(name) { "" } else { "hunter2" };
            format!("{before}{name}{noise}{value}{after}\n")
        }).collect();
        let (kept, outcome) = env_file(&text);
        let layers = Layers::read(Path::new("/nowhere"), "dev", &Surroundings::EnvFile(kept.path().join("a.env")));
        let settings = layers.shown();
        let shown = format!("{}{}{:?}{settings:?}", outcome.found.to_text(), outcome.found.to_json(), outcome.value);
        prop_assert_eq!(outcome.value.is_none(), outcome.found.has_errors());
        prop_assert!(!shown.contains("hunter2"), "{}\n{}", text, shown);
    }
}

proptest! {
    #[test]
    fn whatever_the_values_there_are_settings_or_errors(changes in prop::collection::vec(
        (0..ROWS.len(), prop::sample::select(vec![
            "", " ", "0", "1", "-1", "3.5", "true", "x", "{}", "[]", "{\"type\": \"secret-key\"}", "{\"markers\": [1]}", "null",
            "18446744073709551616", "99999999999", "gcp", "local", "gzip", "cardano-chain", "dummy", "file", "fake", "Test", "private",
            "CardanoDatabase,,x", "https://a.example", "::1", "é", "Snark",
        ])), 0..6)
    ) {
        let names: Vec<_> = changes.iter().filter_map(|(row, value)| Some((ROWS.get(*row)?.variable(), *value))).collect();
        let changes: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let outcome = with(&changes);
        prop_assert_eq!(outcome.value.is_none(), outcome.found.has_errors(), "{:?} {}", changes, outcome.found);
    }
}

#[test]
fn a_level_is_any_that_zstandard_has() {
    let read = |said: &str| {
        let outcome = with(&[("ZSTANDARD_PARAMETERS__LEVEL", said)]);
        outcome.value.map(|settings| settings.artifacts.compression)
    };
    for (said, level) in [("0", 0), ("-5", -5), ("-131072", -131_072), ("22", 22)] {
        assert_eq!(read(said), Some(Compression::Zstandard { level, workers: 4 }), "{said}");
    }
    for said in ["23", "-131073", "--5", "-", "99999999999", "a"] {
        assert_eq!(read(said), None, "{said}");
    }
}

#[test]
fn sizes_of_pools_that_change_nothing_stop_nothing() {
    for name in [
        "CARDANO_TRANSACTIONS_PROVER_CACHE_POOL_SIZE",
        "CARDANO_TRANSACTIONS_DATABASE_CONNECTION_POOL_SIZE",
        "CARDANO_BLOCKS_TRANSACTIONS_PROVER_CACHE_POOL_SIZE",
        "CARDANO_BLOCKS_TRANSACTIONS_DATABASE_CONNECTION_POOL_SIZE",
    ] {
        for (said, warnings) in [("0", 1), ("10", 0), ("5000", 1)] {
            let outcome = with(&[(name, said)]);
            assert!(outcome.value.is_some(), "{name}={said}");
            let told = outcome.found.sorted().into_iter().filter(|one| one.message.contains(name)).count();
            assert_eq!(told, warnings, "{name}={said}");
        }
    }
}

#[test]
fn events_are_kept_for_ever_unless_somebody_says_for_how_long() {
    for (said, kept) in [(None, None), (Some("30"), Some(30))] {
        let more: Vec<_> = said.map(|days| ("EVENT_RETENTION_DAYS", days)).into_iter().collect();
        assert_eq!(with(&more).value.unwrap().event_retention_days, kept);
    }
}

#[test]
fn blocks_that_lag_behind_transactions_are_told() {
    let types = ("SIGNED_ENTITY_TYPES", "CardanoTransactions,CardanoBlocksTransactions");
    let told = |types, blocks| {
        let outcome = with(&[
            types,
            ("CARDANO_TRANSACTIONS_SIGNING_CONFIG__SECURITY_PARAMETER", "100"),
            ("CARDANO_BLOCKS_TRANSACTIONS_SIGNING_CONFIG__SECURITY_PARAMETER", blocks),
        ]);
        assert!(outcome.value.is_some());
        outcome.found.to_string().contains("CONFIG-0312")
    };
    assert!(told(types, "101"));
    assert!(!told(types, "100"));
    assert!(!told(("SIGNED_ENTITY_TYPES", "CardanoBlocksTransactions"), "101"), "nothing is stored for transactions");
}

#[test]
fn in_a_file_every_unknown_variable_is_told_and_in_a_process_only_what_looks_like_ours() {
    let leader: String = leader().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    let signer = r#"ANCILLARY_FILES_SIGNER_CONFIG={"type": "gcp-kms", "resource_name": "r", "credentials_json_env_var": "MY_ACCOUNT"}"#;
    let text = format!(
        "{leader}{signer}\nFOO_BAR=a-secret-perhaps\nRUN_INTERVALL=1\nMY_ACCOUNT={{}}\nRUST_LOG=info\nhttps_proxy=http://p\n\
         SEMEL_LEDGER=/ledger\nBLOCKFROST_PARAMETERS__PROJECT_ID=p\n"
    );
    let (_kept, outcome) = env_file(&text);
    let told = outcome.found.to_text();
    assert_eq!((outcome.value.is_some(), outcome.found.warnings()), (true, 2), "{told}");
    assert!(told.contains("FOO_BAR is not known and has no effect"), "{told}");
    assert!(told.contains("did you mean RUN_INTERVAL?"), "{told}");
    assert!(!told.contains("a-secret-perhaps"), "{told}");
    assert!(with(&[("FOO_BAR", "x")]).found.is_empty());
}

#[test]
fn a_value_of_ours_that_is_not_text_is_an_error_and_others_are_not_looked_at() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    let bad = || OsString::from_vec(vec![b'8', 0xff]);
    for (name, expected) in [
        ("SERVER_PORT", vec!["CONFIG-0305"]),
        ("PROTOCOL_PARAMETERS", vec!["CONFIG-0305"]),
        ("BLOCKFROST_PARAMETERS__PROJECT_ID", vec!["CONFIG-0305"]),
        ("SERVER_PORTS", vec![]),
        ("FOO", vec![]),
    ] {
        let mut layers = Layers::read(Path::new("/nowhere"), "dev", &Surroundings::Given(Vec::new()));
        let rest = leader().into_iter().map(|(name, value)| (name.into(), value.into()));
        layers.read_process(rest.chain([(name.into(), bad())]));
        let outcome = Settings::read(layers);
        let codes: Vec<_> = outcome.found.sorted().into_iter().map(|one| one.code.id).collect();
        assert_eq!((codes, outcome.value.is_none()), (expected.clone(), !expected.is_empty()), "{name}");
    }
}

#[test]
fn a_public_url_is_one_that_paths_can_be_put_behind() {
    let url = |text: &str| errors(&[("PUBLIC_SERVER_URL", text)]);
    for text in [
        "https://a.example/x?y=1",
        "https://a.example/?",
        "https://a.example/#x",
        "https://u@a.example",
        "https://u:p@a.example/x",
    ] {
        assert_eq!(url(text), ["CONFIG-0305"], "{text}");
    }
    assert_eq!(url("https://a.example:8443/x"), [""; 0]);
}

#[test]
fn a_made_up_chain_is_told_unless_it_is_a_test() {
    let fake = ("CHAIN_OBSERVER_TYPE", "fake");
    let told = with(&[fake]).found;
    assert!(told.warnings() == 1 && told.to_text().contains("the chain is made up"), "{told}");
    assert!(with(&[fake, ("ENVIRONMENT", "Test")]).found.is_empty());
}

fn pem(kind: &str, der: &[u8]) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", BASE64_STANDARD.encode(der))
}

#[test]
fn what_the_server_opens_at_its_start_is_looked_at_and_nothing_is_made() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(at("cert.pem"), pem("CERTIFICATE", made.cert.der())).unwrap();
    fs::write(at("key.pem"), pem("PRIVATE KEY", &made.key_pair.serialize_der())).unwrap();
    fs::write(at("file"), "no directory, no PEM").unwrap();
    fs::create_dir(at("newer")).unwrap();
    let db = store::Connection::open(at("newer/aggregator.sqlite3")).unwrap();
    db.execute_batch("CREATE TABLE db_version (version integer); INSERT INTO db_version VALUES (45)").unwrap();
    drop(db);
    fs::create_dir(at("damaged")).unwrap();
    fs::write(at("damaged/aggregator.sqlite3"), "this is no database, however long it may be").unwrap();
    let secret = format!(r#"{{"type": "secret-key", "secret_key": "{}"}}"#, "07".repeat(32));
    let found = |changes: &[(&str, &str)]| {
        let mut variables = leader();
        let stores = at("deep/stores");
        for (name, value) in [("DATA_STORES_DIRECTORY", stores.as_str())].iter().chain(changes) {
            variables.retain(|(known, _)| known != name);
            variables.push(((*name).to_owned(), (*value).to_owned()));
        }
        let layers = Layers::read(Path::new("/nowhere"), "dev", &Surroundings::Given(variables));
        let outcome = Settings::read_to_start(layers);
        assert_eq!(outcome.value.is_none(), outcome.found.has_errors());
        let errors: Vec<_> = outcome.found.sorted().into_iter().map(|one| (one.code.id, one.message)).collect();
        errors
    };
    let tls = |certificate: &str, key: &str| {
        found(&[("SERVER_TLS_CERTIFICATE_PATH", &at(certificate)), ("SERVER_TLS_KEY_PATH", &at(key))])
    };
    let bucket = [
        ("SIGNED_ENTITY_TYPES", "CardanoDatabase"),
        ("ANCILLARY_FILES_SIGNER_CONFIG", &secret),
        ("SNAPSHOT_BUCKET_NAME", "bucket"),
        ("SNAPSHOT_DIRECTORY", &at("snapshots")),
        ("GOOGLE_APPLICATION_CREDENTIALS_JSON", "{}"),
    ];
    let local = |directory: &str| {
        found(&[bucket[0], bucket[1], ("SNAPSHOT_UPLOADER_TYPE", "local"), ("SNAPSHOT_DIRECTORY", &at(directory))])
    };
    for (what, found, expected) in [
        ("nothing", found(&[]), None),
        ("TLS", tls("cert.pem", "key.pem"), None),
        ("no certificate", tls("none.pem", "key.pem"), Some("SERVER_TLS_CERTIFICATE_PATH")),
        ("no PEM", tls("file", "key.pem"), Some("SERVER_TLS_CERTIFICATE_PATH")),
        ("no key", tls("cert.pem", "none.pem"), Some("SERVER_TLS_KEY_PATH")),
        ("no PEM of a key", tls("cert.pem", "file"), Some("SERVER_TLS_KEY_PATH")),
        ("an account of nobody", found(&bucket), Some("GOOGLE_APPLICATION_CREDENTIALS_JSON")),
        ("archives here", local("snapshots"), None),
        ("archives in a file", local("file"), Some("SNAPSHOT_DIRECTORY")),
        ("stores are a file", found(&[("DATA_STORES_DIRECTORY", &at("file"))]), Some("DATA_STORES_DIRECTORY")),
        ("stores below a file", found(&[("DATA_STORES_DIRECTORY", &at("file/x"))]), Some("DATA_STORES_DIRECTORY")),
        ("a newer database", found(&[("DATA_STORES_DIRECTORY", &at("newer"))]), Some("DATA_STORES_DIRECTORY")),
        ("no database", found(&[("DATA_STORES_DIRECTORY", &at("damaged"))]), Some("DATA_STORES_DIRECTORY")),
    ] {
        match expected {
            None => assert!(found.is_empty(), "{what}: {found:?}"),
            Some(variable) => {
                let [(code, message)] = found.as_slice() else { panic!("{what}: {found:?}") };
                assert!(*code == "CONFIG-0315" && message.starts_with(variable), "{what}: {message}");
            }
        }
    }
    assert!(!place.path().join("deep").exists() && !place.path().join("snapshots").exists());
}
