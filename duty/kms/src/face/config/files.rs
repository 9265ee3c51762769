//! Looks at the files that configurations name: there, readable, private, and holding what they should.
//!
//! Nothing is changed and nothing is made. Keys and state files are read by those who will use them, so what passes here also starts.

use super::codes;
use super::schema::{Chain, Config, Password, SigningKey};
use crate::host::state::StateError;
use rustix::fs::{Access, access};
use semel_guard::PublicKey;
use semel_keys::identity::Identity;
use semel_keys::{KeyError, softsign};
use semel_ledger::interchange::StateFile;
use semel_ops::config::{Diagnostic, Diagnostics, Spanned};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of a key, password or state file.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Permission bits of others than the owner.
const OTHERS: u32 = 0o077;

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// At the text of the configurations alone.
    Text,
    /// At the files that they name, but not into state files: for commands that mend those.
    Files,
    /// At everything.
    Everything,
}

/// What was learned that is needed across files.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Path of a key file and the public key in it.
    pub(super) public_keys: Vec<(PathBuf, PublicKey)>,
}

/// Files that are named by tables which cannot be used as they stand: what is wrong with them is found in the same run.
#[derive(Debug, Default)]
pub(super) struct Loose {
    pub(super) identities: Vec<Spanned<PathBuf>>,
    pub(super) passwords: Vec<Spanned<PathBuf>>,
    pub(super) pins: Vec<Spanned<PathBuf>>,
    pub(super) states: Vec<Spanned<PathBuf>>,
}

pub(super) fn check(configs: &[Config], loose: &Loose, look: Look, found: &Diagnostics) -> Facts {
    let mut facts = Facts::default();
    for config in configs {
        for softsign in &config.softsign {
            let hint = format!(
                "`softsign keygen {0}` makes a new key, `softsign import priv_validator_key.json {0}` takes a node's",
                softsign.path.display()
            );
            if !is_there(&softsign.path, "the key file", &hint, true, found) {
                continue;
            }
            match softsign::load(&softsign.path.value, softsign.key_format, softsign.key_type) {
                Ok((key, _)) => facts.public_keys.push((softsign.path.value.clone(), key.public().clone())),
                Err(error) => bad_key(&softsign.path, "the key file", &error, found),
            }
        }
        for path in config.validators.iter().filter_map(|validator| validator.secret_key.as_ref()) {
            identity(path, found);
        }
        for device in &config.yubihsm {
            if let Password::File(path) = &device.auth.password {
                password(path, found);
            }
        }
        for token in &config.pkcs11 {
            if let Password::File(path) = &token.pin {
                pin(path, found);
            }
        }
        for chain in &config.chains {
            let key = match config.signing_key(&chain.name) {
                Some(SigningKey::Softsign(key)) => facts.public_keys.iter().find(|(path, _)| *path == key.path.value),
                _ => None,
            };
            state(chain, key.map(|(_, key)| key), look, found);
        }
    }
    loose.identities.iter().for_each(|path| identity(path, found));
    loose.passwords.iter().for_each(|path| password(path, found));
    loose.pins.iter().for_each(|path| pin(path, found));
    for path in &loose.states {
        directory(path, found);
        if look >= Look::Everything && path.exists() {
            readable_state(path, found);
        }
    }
    facts
}

fn identity(path: &Spanned<PathBuf>, found: &Diagnostics) {
    let hint = format!("make it: head -c 32 /dev/urandom | base64 > {0} && chmod 600 {0}", path.display());
    if is_there(path, "the identity file", &hint, true, found)
        && let Err(error) = Identity::load(&path.value)
    {
        bad_key(path, "the identity file", &error, found);
    }
}

fn password(path: &Spanned<PathBuf>, found: &Diagnostics) {
    let hint = "write the password of the authentication key into it, mode 0600";
    if is_there(path, "the password file", hint, true, found) {
        not_empty(path, "the password file", hint, found);
    }
}

fn pin(path: &Spanned<PathBuf>, found: &Diagnostics) {
    let hint = "write the user PIN of the token into it, mode 0600";
    if is_there(path, "the PIN file", hint, true, found) {
        // A token counts an empty PIN as a wrong one.
        not_empty(path, "the PIN file", hint, found);
    }
}

fn state(chain: &Chain, key: Option<&PublicKey>, look: Look, found: &Diagnostics) {
    let path = &chain.state_file;
    directory(path, found);
    if look < Look::Everything || !path.exists() && !chain.require_state {
        return;
    }
    if let (Some(state), Some(key)) = (readable_state(path, found), key)
        && let Err(error) = state.check_owner(&chain.id.value, &key.to_string())
    {
        bad_state(path, &StateError::Parse { path: path.value.clone(), error }, found);
    }
}

/// What the state file says, if it can be read.
fn readable_state(path: &Spanned<PathBuf>, found: &Diagnostics) -> Option<StateFile> {
    let hint = "it says what was signed last: restore it, or, for a key that never signed, leave require_state away";
    if !is_there(path, "the state file", hint, false, found) {
        return None;
    }
    // Read a moment ago; a file that went away since then is missing at the start, too.
    crate::host::state::read(&path.value).map_err(|error| bad_state(path, &error, found)).ok().flatten()
}

/// The directory must be there and let us make files, because the state file is replaced by a new one each time.
fn directory(path: &Spanned<PathBuf>, found: &Diagnostics) {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return,
    };
    let error = |message: String, hint: String| {
        found.push(Diagnostic::error(&codes::STATE_DIRECTORY, &path.place, message).hint(hint));
    };
    let shown = directory.display();
    if !directory.is_dir() {
        error(format!("the directory of the state file is not there: {shown}"), format!("mkdir -p {shown}"));
    } else if access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let user = rustix::process::geteuid().as_raw();
        error(
            format!("the directory of the state file cannot be written: {shown}"),
            format!("let user {user}, under whom this process runs, write to it: chown {user} {shown}"),
        );
    }
}

/// Whether the file can be looked into. Says so when not, and warns when a secret is not private.
fn is_there(path: &Spanned<PathBuf>, what: &str, hint: &str, secret: bool, found: &Diagnostics) -> bool {
    let shown = path.display();
    // Not opened before it is known to be a file: opening a pipe would wait.
    let outcome = std::fs::metadata(&path.value).and_then(|metadata| {
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        File::open(&path.value).map(|_| metadata)
    });
    let (reason, hint) = match outcome {
        Ok(metadata) => {
            if secret {
                private(path, what, &metadata, found);
            }
            if metadata.len() <= FILE_BYTES_MAX {
                return true;
            }
            (
                format!("it has {} bytes, too many for what it should be", metadata.len()),
                "name the right file".to_owned(),
            )
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => ("no such file".to_owned(), hint.to_owned()),
            io::ErrorKind::PermissionDenied => {
                let user = rustix::process::geteuid().as_raw();
                ("permission denied".to_owned(), format!("let user {user}, under whom this process runs, read it"))
            }
            _ => (error.to_string(), hint.to_owned()),
        },
    };
    let message = format!("cannot read {what} {shown}: {reason}");
    found.push(Diagnostic::error(&codes::FILE, &path.place, message).hint(hint));
    false
}

fn not_empty(path: &Spanned<PathBuf>, what: &str, hint: &str, found: &Diagnostics) {
    let content = std::fs::read(&path.value).map(zeroize::Zeroizing::new);
    if content.is_ok_and(|content| content.trim_ascii().is_empty()) {
        let message = format!("{what} {} is empty", path.display());
        found.push(Diagnostic::error(&codes::FILE, &path.place, message).hint(hint));
    }
}

fn private(path: &Spanned<PathBuf>, what: &str, metadata: &Metadata, found: &Diagnostics) {
    let shown = path.display();
    let warn = |message: String, hint: String| {
        found.push(Diagnostic::warning(&codes::PERMISSIONS, &path.place, message).hint(hint));
    };
    let mode = metadata.mode() & 0o777;
    if mode & OTHERS != 0 {
        warn(
            format!("{what} {shown} has mode {mode:04o}: others than its owner may use it"),
            format!("chmod 600 {shown}"),
        );
    }
    let (user, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
    // Root serves any user's files, and may own a service's.
    if user != 0 && owner != 0 && owner != user {
        warn(format!("{what} {shown} belongs to user {owner}, who may change it"), format!("chown {user} {shown}"));
    }
}

fn bad_key(path: &Spanned<PathBuf>, what: &str, error: &KeyError, found: &Diagnostics) {
    let message = format!("{what} {} is not valid: {}", path.display(), error.kind);
    found.push(Diagnostic::error(&codes::KEY_FILE, &path.place, message).hint(error.hint()));
}

fn bad_state(path: &Spanned<PathBuf>, error: &StateError, found: &Diagnostics) {
    let why = match error {
        StateError::Parse { error, .. } => error.to_string(),
        other => other.to_string(),
    };
    let message = format!("the state file {} is not valid: {why}", path.display());
    found.push(Diagnostic::error(&codes::STATE_FILE, &path.place, message).hint(error.hint()));
}
