//! `softsign`: keys in files.

use super::args::{KeyKind, Softsign};
use super::{dated, key_report};
use semel_keys::softsign::{self, KeyType};
use semel_ops::error::Report;
use semel_ops::shell::Shell;

/// Makes or imports a key. A key that is there is never written over; with `--force` it is kept under another name.
pub(super) fn run(command: &Softsign, shell: &Shell) -> Result<(), Report> {
    match command {
        Softsign::Keygen { kind, force, path } => {
            let (kind, name) = match kind {
                KeyKind::Consensus => (KeyType::Consensus, "consensus"),
                KeyKind::Account => (KeyType::Account, "account"),
            };
            let date = force.then(dated);
            let made = softsign::generate(path, kind, date.as_deref()).map_err(|error| key_report(&error))?;
            if let Some(kept) = made.1 {
                shell.status("Kept", kept.display());
            }
            shell.status("Generated", format!("{name} private key at: {}", path.display()));
        }
        Softsign::Import { format: _, force, input, output } => {
            let date = force.then(dated);
            let made = softsign::import(input, output, date.as_deref()).map_err(|error| key_report(&error))?;
            if let Some(kept) = made.1 {
                shell.status("Kept", kept.display());
            }
            shell.status("Imported", format!("Ed25519 private key to {}", output.display()));
        }
    }
    Ok(())
}
