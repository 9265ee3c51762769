//! `softsign`: keys in files.

use super::args::{KeyKind, Softsign};
use super::{dated, key_report};
use semel_keys::softsign::{self, Form, KeyType};
use semel_keys::{KeyError, KeyErrorKind};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use std::path::{Path, PathBuf};

/// Makes or imports a key. A key that is there is never written over; with `--force` it is kept under another name.
pub(super) fn run(command: &Softsign, shell: &Shell) -> Result<(), Report> {
    let failed = |error: KeyError| key_report(&error);
    match command {
        Softsign::Keygen { kind, force, dry_run, path } => {
            let (kind, name) = match kind {
                KeyKind::Consensus => (KeyType::Consensus, "consensus"),
                KeyKind::Account => (KeyType::Account, "account"),
            };
            if *dry_run {
                return would_make(path, *force, shell);
            }
            let (_, kept) = softsign::generate(path, kind, force.then(dated).as_deref()).map_err(failed)?;
            say_kept(kept, shell);
            shell.status("Generated", format!("{name} private key at: {}", path.display()));
        }
        Softsign::Import { format: _, force, dry_run, input, output } => {
            let failed = |error: KeyError| match error.path == *input && error.code() == "KEY-0001" {
                true => key_report(&error).hint("name the node's priv_validator_key.json"),
                false => failed(error),
            };
            if *dry_run {
                softsign::load(input, Form::Json, KeyType::Consensus).map_err(failed)?;
                return would_make(output, *force, shell);
            }
            let (_, kept) = softsign::import(input, output, force.then(dated).as_deref()).map_err(failed)?;
            say_kept(kept, shell);
            shell.status("Imported", format!("Ed25519 private key to {}", output.display()));
        }
    }
    Ok(())
}

fn say_kept(kept: Option<PathBuf>, shell: &Shell) {
    if let Some(kept) = kept {
        shell.status("Kept", kept.display());
    }
}

fn would_make(path: &Path, force: bool, shell: &Shell) -> Result<(), Report> {
    match (path.exists(), force) {
        (true, false) => return Err(key_report(&KeyError { path: path.into(), kind: KeyErrorKind::Exists })),
        (true, true) => shell.status("Would keep", format!("a dated copy of {}", path.display())),
        (false, _) => {}
    }
    shell.status("Would make", path.display());
    Ok(())
}
