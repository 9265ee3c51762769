//! `init`: a directory with a configuration and the keys it needs, as tmkms lays it out.
//!
//! ```text
//! PATH/tmkms.toml               configuration
//! PATH/schema/                  key format schemas (kept for compatibility, empty)
//! PATH/secrets/                 0700; kms-identity.key, CHAIN-consensus.key goes here
//! PATH/state/                   CHAIN-consensus.json
//! ```

use super::args::Init;
use super::configure::template::{self, Entry, Layout, NETWORKS, NODE};
use super::key_report;
use semel_keys::identity::Identity;
use semel_keys::write_new;
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes the directory.
pub(super) fn run(init: &Init, shell: &Shell) -> Result<(), Report> {
    let mut chains = Vec::new();
    for name in &init.networks {
        let known = NETWORKS.iter().find(|network| network.name == name);
        // A chain id of one's own has a revision or is no name of the list.
        let is_chain_id = name.contains('-') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        match known {
            Some(network) => chains.push(network.chain_id.to_owned()),
            None if is_chain_id => chains.push(name.clone()),
            None => {
                let names: Vec<&str> = NETWORKS.iter().map(|network| network.name).collect();
                return Err(Report::new(format!("unknown network: {name}"))
                    .code_id("CONFIG-0204")
                    .because(format!("known networks: {}", names.join(", ")))
                    .hint("for another chain give its chain id, such as my-chain-1"));
            }
        }
    }
    let home = &init.path;
    let config = home.join("tmkms.toml");
    not_there(&config, init.force)?;
    if init.dry_run {
        for path in ["", "schema", "secrets", "state"] {
            shell.status("Would make", home.join(path).display());
        }
        shell.status("Would make", config.display());
        let identity = Layout(home).identity();
        if !identity.exists() {
            shell.status("Would make", identity.display());
        }
        return Ok(());
    }
    shell.status("Creating", home.display());
    for (path, mode) in [("", 0o700), ("schema", 0o755)] {
        make(&home.join(path), mode)?;
    }
    let home = std::fs::canonicalize(home).map_err(|error| failed(home, &error))?;
    let entries: Vec<Entry> = chains.iter().map(|chain| Layout(&home).entry(chain, vec![NODE.to_owned()])).collect();
    lay_out(&home.join("tmkms.toml"), &template::text(&entries), shell)
}

/// Refuses where a configuration is, unless it is to be replaced.
pub(super) fn not_there(config: &Path, force: bool) -> Result<(), Report> {
    if config.exists() && !force {
        return Err(Report::new(format!("{} exists", config.display()))
            .code_id("CONFIG-0203")
            .hint("nothing was changed; --force writes a new one and keeps a dated copy")
            .exit(Exit::Failed));
    }
    Ok(())
}

/// Writes a configuration, and makes what it needs beside it: the directories of secrets and states, and an identity. An older
/// configuration is kept under a dated name.
pub(super) fn lay_out(config: &Path, text: &str, shell: &Shell) -> Result<(), Report> {
    let home = config.parent().unwrap_or(Path::new("."));
    directories(home)?;
    let kept = write_new(config, text.as_bytes(), Some(&super::dated())).map_err(|error| key_report(&error))?;
    if let Some(copy) = kept {
        shell.status("Kept", copy.display());
    }
    shell.status("Generated", format!("KMS configuration: {}", config.display()));
    identity(home, shell)
}

/// The directories of secrets and states below `home`. What is there stays.
pub(super) fn directories(home: &Path) -> Result<(), Report> {
    make(&home.join("secrets"), 0o700)?;
    make(&home.join("state"), 0o755)
}

/// The identity of connections. One that is there stays.
pub(super) fn identity(home: &Path, shell: &Shell) -> Result<(), Report> {
    let secret = Layout(home).identity();
    if !secret.exists() {
        Identity::generate(&secret, None).map_err(|error| key_report(&error))?;
        shell.status("Generated", format!("Secret Connection key: {}", secret.display()));
    }
    Ok(())
}

/// Makes a directory and those above it.
pub(super) fn make(path: &Path, mode: u32) -> Result<(), Report> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &std::io::Error) -> Report {
    Report::new(format!("cannot make {}", path.display())).cause(error)
}
