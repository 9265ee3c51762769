//! A directory with a good configuration and every file that it names.

use super::super::{Checked, Look, check};
use semel_ops::config::{Diagnostic, Severity};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// 32 bytes in base64.
pub(super) const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// 32 other bytes in base64.
pub(super) const OTHER_KEY: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

/// The identity of a connection.
const IDENTITY: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

/// A good configuration; `DIR` is where its files are. Tests name its lines by their text.
pub(super) const GOOD: &str = r#"[[chain]]
id = "commercio-3"
key_format = { type = "bech32", account_key_prefix = "did:com:", consensus_key_prefix = "did:com:valconspub" }
state_file = "DIR/state.json"
sign_extensions = true
state_hook = { cmd = ["/bin/true", "x"], timeout_secs = 5, fail_closed = true }

[[validator]]
addr = "tcp://f9d4a56c00112233445566778899aabbccddeeff@10.1.1.1:26658"
chain_id = "commercio-3"
reconnect = true
timeout = 10
secret_key = "DIR/identity.key"
max_height = "500000"
protocol_version = "v0.34"

[[validator]]
addr = "unix:///run/node.sock"
chain_id = "commercio-3"

[[providers.softsign]]
chain_ids = ["commercio-3"]
key_type = "consensus"
key_format = "base64"
path = "DIR/consensus.key"

[semel]
durability = "reserve"
reserve_heights = 4
ledger = "DIR/ledger"
http_addr = "127.0.0.1:9464"
log_format = "json"
allow_root = false
"#;

/// The directory.
pub(super) struct Fixture {
    directory: tempfile::TempDir,
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let fixture = Fixture { directory: tempfile::tempdir().unwrap() };
        for (name, content) in [("identity.key", IDENTITY), ("consensus.key", KEY), ("password", "password")] {
            fixture.secret(name, content.as_bytes());
        }
        fixture
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file with mode 0600.
    pub(super) fn secret(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes a configuration, with `DIR` replaced.
    pub(super) fn config(&self, name: &str, text: &str) -> PathBuf {
        self.secret(name, text.replace("DIR", self.directory.path().to_str().unwrap()).as_bytes())
    }

    /// Checks the configuration alone.
    pub(super) fn check(&self, text: &str) -> Checked {
        check(&[self.config("tmkms.toml", text)], Look::Everything)
    }

    pub(super) fn check_all(&self, paths: &[&Path]) -> Checked {
        check(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>(), Look::Everything)
    }
}

/// The findings as `severity CODE line:column message | hint`, for messages of failed tests.
pub(super) fn listing(items: &[Diagnostic]) -> String {
    let mut text = String::new();
    for item in items {
        let hint = item.hint.as_deref().unwrap_or("no hint");
        let code = item.code.id;
        writeln!(text, "{} {code} {} {} | {hint}", item.severity, item.place, item.message).unwrap();
    }
    text
}

pub(super) fn errors(checked: &Checked) -> Vec<Diagnostic> {
    checked.found.sorted().into_iter().filter(|item| item.severity == Severity::Error).collect()
}
