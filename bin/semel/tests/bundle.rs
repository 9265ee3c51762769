//! `semel bundle`: everything that helps, and no secret, wherever one was planted.

mod stage;

use semel_devnet_tendermint::privval::Family;
use stage::{Stage, called, node, prevote};
use std::fs;

#[test]
fn a_bundle_says_what_runs_and_holds_no_secret() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let config = stage.config(&[node.address().to_string()]);
    let _signer = stage.start(&config);
    called(&node).sign_vote(&prevote(7, 1)).unwrap();
    // Canaries in every place where people leave secrets.
    let text = stage.read("tmkms.toml")
        + "# canary-comment\n[[providers.yubihsm]]\nadapter = { type = \"http\", addr = \"tcp://127.0.0.1:1\" }\n\
           auth = { key = 1, password = \"canary-password\" }\n\
           [[providers.pkcs11]]\nmodule = \"/m.so\"\nslot = 1\npin = \"canary-pin\"\n\
           [[providers.yubihsm]]\nadapter = { type = \"http\", addr = \"tcp://127.0.0.1:1\" }\n\
           auth = { key = 1, pasword = \"canary-slip\", other = \"canary-other\" }\n\
           [[providers.yubihsm]]\nauth = \"canary-auth\"\n\
           [[providers.pkcs11]]\nmodule = \"/m.so\"\nslot = 1\npni = \"canary-pni\"\n\
           [[providers.fortanixdsm]]\napi_key = \"canary-api-key\"\n";
    stage.secret("tmkms.toml", &text);
    for json in [&[][..], &["--json"]] {
        let found = stage.run(&[&["kms", "config", "check", "-c", "DIR/tmkms.toml"], json].concat());
        assert!(found.code == 1 && !format!("{found:?}").contains("canary"), "{found:?}");
    }
    stage.secret("broken.toml", "password = canary-broken");
    let words = ["bundle", "-c", "DIR/tmkms.toml", "-c", "DIR/broken.toml", "--ledger", "DIR/ledger", "-o", "DIR/out"];
    let shown = stage.run(&[&words[..], &["--dry-run"]].concat());
    assert!(shown.code == 0 && shown.stdout.contains("status.json") && !stage.path("out").exists(), "{shown:?}");
    let ran = stage.run(&words);
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut all = ran.stdout + &ran.stderr;
    for entry in fs::read_dir(stage.path("out")).unwrap() {
        all += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    for secret in ["canary", "AQEBAQEB", "AwMDAwMD"] {
        assert!(!all.contains(secret), "{secret} is in the bundle");
    }
    for there in ["(redacted)", "prevote #7/0", "127.0.0.1:1", "\"system\"", "CONFIG-"] {
        assert!(all.contains(there), "{there} is not in the bundle: {all}");
    }
    assert_eq!(stage.run(&words).code, 1, "a bundle is never written over");
}
