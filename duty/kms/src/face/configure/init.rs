//! `config init`: one complete configuration, with what it needs beside it.

use super::super::init::{lay_out, not_there};
use super::super::key_report;
use super::template::{self, Entry, KeyEntry, Layout, NODE};
use clap::{Args, ValueEnum};
use semel_keys::softsign::{self, KeyType};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use std::path::{Path, PathBuf};

/// `config init`
#[derive(Debug, Args)]
pub struct Init {
    /// File to make; secrets/ and state/ go beside it
    #[arg(short, long, value_name = "FILE", default_value = "tmkms.toml")]
    output: PathBuf,
    /// Id of the chain, as in its genesis file
    #[arg(long, value_name = "ID", default_value = "cosmoshub-4")]
    chain_id: String,
    /// Where the node listens: its priv_validator_laddr
    #[arg(long, value_name = "ADDR", default_value = NODE)]
    node: String,
    /// Where the key is
    #[arg(long, value_enum, default_value = "file")]
    key: KeyPlace,
    /// Make a new key in a file, too
    #[arg(long)]
    generate_key: bool,
    /// Write over an existing configuration, keeping a dated copy of it
    #[arg(long)]
    force: bool,
    /// Show what would be written
    #[arg(long)]
    dry_run: bool,
}

/// Where a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyPlace {
    /// In a file
    File,
    /// In a YubiHSM
    Yubihsm,
    /// In a PKCS#11 token
    Pkcs11,
}

impl Init {
    /// Runs the command.
    pub(super) fn run(&self, shell: &Shell) -> Result<(), Report> {
        if self.generate_key && self.key != KeyPlace::File {
            return Err(Report::new("a key in a device is not made by --generate-key")
                .code_id("CONFIG-0201")
                .hint("`yubihsm keys generate`, or the tool of the token, makes it")
                .exit(Exit::Misuse));
        }
        let output = std::path::absolute(&self.output)
            .map_err(|error| Report::new(format!("no such path: {}", self.output.display())).cause(&error))?;
        let home = output.parent().unwrap_or(Path::new("/"));
        let entry = self.entry(home);
        let text = template::text(std::slice::from_ref(&entry));
        template::checked(&output, &text)?;
        not_there(&output, self.force)?;
        if self.dry_run {
            shell.status("Would make", output.display());
            if let (KeyEntry::File(key), true) = (&entry.key, self.generate_key && !key_is_there(&entry)) {
                shell.status("Would make", key.display());
            }
            return super::said(shell.line(text.trim_end()));
        }
        lay_out(&output, &text, shell)?;
        if let (KeyEntry::File(key), true) = (&entry.key, self.generate_key) {
            // The configuration may be replaced; a key never is.
            match key_is_there(&entry) {
                true => shell.status("Kept", format!("{}: a key is never written over", key.display())),
                false => {
                    softsign::generate(key, KeyType::Consensus, None).map_err(|error| key_report(&error))?;
                    shell.status("Generated", format!("consensus private key at: {}", key.display()));
                }
            }
        }
        self.say_next(&output, &entry, shell);
        Ok(())
    }

    fn entry(&self, home: &Path) -> Entry {
        let mut entry = Layout(home).entry(&self.chain_id, vec![self.node.clone()]);
        match self.key {
            KeyPlace::File => {}
            KeyPlace::Yubihsm => entry.key = KeyEntry::YubiHsm(home.join("secrets/yubihsm-password")),
            KeyPlace::Pkcs11 => {
                entry.key = KeyEntry::Pkcs11 {
                    module: PathBuf::from("/usr/lib/softhsm/libsofthsm2.so"),
                    token: "token_label = \"validator\"               # or serial = \"…\", or slot = 0".into(),
                    pin_file: home.join("secrets/pkcs11-pin"),
                    key: "label = \"consensus\", id = \"01\"".into(),
                }
            }
        }
        entry
    }

    fn say_next(&self, output: &Path, entry: &Entry, shell: &Shell) {
        let next = |text: String| shell.status("Next", text);
        match &entry.key {
            KeyEntry::File(key) if !key.exists() => next(format!(
                "`softsign import priv_validator_key.json {0}`, or `softsign keygen {0}` for a new validator",
                key.display()
            )),
            KeyEntry::YubiHsm(secret) => next(format!(
                "write the password of the authentication key to {}, mode 0600; name the key in `keys`",
                secret.display()
            )),
            KeyEntry::Pkcs11 { pin_file, .. } => {
                next(format!("write the user PIN to {}, mode 0600; correct module, token and key", pin_file.display()))
            }
            _ => {}
        }
        if !self.generate_key {
            next("for a key that signed before: stop its signer, then `state import` the state that it left".into());
        }
        let port = self.node.rsplit_once(':').map_or("26659", |(_, port)| port);
        match self.node.strip_prefix("unix://") {
            Some(_) => next(format!("at the node: priv_validator_laddr = \"{}\"", self.node)),
            None => {
                next(format!("at the node: priv_validator_laddr = \"tcp://0.0.0.0:{port}\", reachable from here alone"))
            }
        }
        next(format!("`config check -c {0}`, then `start -c {0}`", output.display()));
    }
}

fn key_is_there(entry: &Entry) -> bool {
    matches!(&entry.key, KeyEntry::File(key) if std::fs::symlink_metadata(key).is_ok())
}
