//! The guide for operators: the configurations in it parse as they are.

use super::super::{Adapter, Address, Checked, KeyFormat, Look, ProtocolVersion, examine};
use semel_ops::config::{Diagnostics, Source};
use std::path::Path;

/// Reads the `toml` blocks of the guide; `None` when it is not at hand.
fn blocks() -> Option<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let path = root.join("../shared/guides/T-tmkms-update.md");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIP: the guide is not at ../shared/guides/T-tmkms-update.md, its configurations were not read");
        return None;
    };
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "```toml" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    Some(blocks)
}

fn read(text: &str) -> Checked {
    examine(&[Source::new("tmkms.01.toml", text)], Look::Text, Diagnostics::new())
}

#[test]
fn both_configurations_of_the_guide_parse_with_warnings_only() {
    let Some(blocks) = blocks() else { return };
    assert_eq!(blocks.len(), 2);
    for (block, id, version) in
        [(&blocks[0], "commercio-2_2", ProtocolVersion::V0_33), (&blocks[1], "commercio-3", ProtocolVersion::V0_34)]
    {
        let checked = read(block);
        assert!(!checked.found.has_errors(), "{}", checked.found);
        let config = &checked.configs[0];
        let (chain, validator, device) = (&config.chains[0], &config.validators[0], &config.yubihsm[0]);
        assert_eq!((chain.id.as_str(), validator.chain.as_str(), validator.protocol_version), (id, id, version));
        let prefixes = KeyFormat::Bech32 {
            account_key_prefix: "did:com:".to_owned(),
            consensus_key_prefix: "did:com:valconspub".to_owned(),
        };
        assert_eq!(chain.key_format, prefixes);
        assert_eq!(validator.addr.value, Address::Tcp { peer_id: None, host: "10.1.1.1".to_owned(), port: 26658 });
        assert_eq!(device.adapter, Adapter::Http { host: "127.0.0.1".to_owned(), port: 12345 });
        assert_eq!((device.auth.key, device.keys[0].key.value), (1, 1));
        assert_eq!(device.keys[0].chains, [id]);
        let codes: Vec<_> = checked.found.sorted().iter().map(|d| d.code.id).collect();
        assert_eq!(codes, ["CONFIG-0108"], "the serial number");
    }
}

#[test]
fn a_half_done_upgrade_names_each_place_that_was_forgotten() {
    let Some(blocks) = blocks() else { return };
    let text = blocks[0].replacen("commercio-2_2", "commercio-3", 1);
    let errors = super::fixture::errors(&read(&text));
    let places: Vec<_> = errors.iter().map(|d| (d.code.id, d.place.line())).collect();
    let line = |what: &str| text.lines().position(|line| line.contains(what)).unwrap() + 1;
    assert_eq!(places, [("CONFIG-0103", line("chain_id = ")), ("CONFIG-0103", line("chain_ids = "))]);
    for error in errors {
        assert!(error.hint.unwrap().starts_with("did you mean \"commercio-3\"?"));
        assert_eq!(error.related[0].0.line(), line("id = \"commercio-3\""));
    }
}
