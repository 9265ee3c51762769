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
use semel_ledger::Filesystem;
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
    /// At everything, and at what the ledger and the state files lie on: for a check before a start.
    Disks {
        /// A ledger that would be lost is accepted.
        volatile_ledger: bool,
    },
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
        let user = user_of(config);
        for softsign in &config.softsign {
            let hint = format!(
                "`softsign keygen {0}` makes a new key, `softsign import priv_validator_key.json {0}` takes a node's",
                softsign.path.display()
            );
            if !is_there(&softsign.path, "the key file", &hint, Some(user), found) {
                continue;
            }
            match softsign::load(&softsign.path.value, softsign.key_format, softsign.key_type) {
                Ok((key, _)) => facts.public_keys.push((softsign.path.value.clone(), key.public().clone())),
                Err(error) => bad_key(&softsign.path, "the key file", &error, found),
            }
        }
        for path in config.validators.iter().filter_map(|validator| validator.secret_key.as_ref()) {
            identity(path, user, found);
        }
        for device in &config.yubihsm {
            if let Password::File(path) = &device.auth.password {
                password(path, user, found);
            }
        }
        for token in &config.pkcs11 {
            if let Password::File(path) = &token.pin {
                pin(path, user, found);
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
    if let Look::Disks { volatile_ledger } = look {
        disks(configs, volatile_ledger, found);
    }
    let user = configs.first().map_or_else(|| rustix::process::geteuid().as_raw(), user_of);
    loose.identities.iter().for_each(|path| identity(path, user, found));
    loose.passwords.iter().for_each(|path| password(path, user, found));
    loose.pins.iter().for_each(|path| pin(path, user, found));
    for path in &loose.states {
        directory(path, found);
        if look >= Look::Everything && path.exists() {
            readable_state(path, found);
        }
    }
    facts
}

/// The user that the signer runs as: this one. Root looks at the files of services, too: then it is the owner of a state file, or of
/// the directory where that will be.
fn user_of(config: &Config) -> u32 {
    let owner = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.uid());
    match rustix::process::geteuid().as_raw() {
        0 => {
            let states = config.chains.iter().map(|chain| &chain.state_file.value);
            let of_one = |path: &PathBuf| owner(path).or_else(|| owner(&semel_ops::harden::directory_of(path)));
            states.filter_map(of_one).next().unwrap_or(0)
        }
        user => user,
    }
}

/// What has to last lies on a disk of this host.
fn disks(configs: &[Config], volatile_ledger: bool, found: &Diagnostics) {
    for config in configs {
        for chain in &config.chains {
            let path = &chain.state_file;
            if let Some(kind) = volatile(path) {
                let message = format!("the state file {} lies on {kind}, which forgets or is shared", path.display());
                let warning = Diagnostic::warning(&codes::VOLATILE, &path.place, message);
                found.push(warning.hint("move it to a local disk; the ledger is what counts, and has to be on one"));
            }
        }
        let set = config.semel.iter().flat_map(|semel| &semel.set);
        for (_, path) in set.filter(|(name, _)| *name == "ledger" && !volatile_ledger) {
            if let Some(kind) = volatile(Path::new(&path.value)) {
                let message = format!("the ledger in {} lies on {kind}, which forgets or is shared", path.value);
                let error = Diagnostic::error(&codes::VOLATILE, &path.place, message);
                let hint = "move it to a local disk: `start` refuses it there (LEDGER-0005), unless --i-accept-volatile-ledger is said for a test network";
                found.push(error.hint(hint));
            }
        }
    }
}

/// The kind of file system under a path, or under what there is of it, if it forgets or is shared. What lies in the directory for
/// temporary files is there for a trial; `start` and `doctor` tell of it all the same.
fn volatile(path: &Path) -> Option<&'static str> {
    if path.starts_with(std::env::temp_dir()) {
        return None;
    }
    let above = path.ancestors().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    match semel_ledger::filesystem_of(above.into_iter().find(|above| above.exists())?) {
        Ok(Filesystem::Volatile(kind)) => Some(kind),
        _ => None,
    }
}

fn identity(path: &Spanned<PathBuf>, user: u32, found: &Diagnostics) {
    let hint = format!("make it: head -c 32 /dev/urandom | base64 > {0} && chmod 600 {0}", path.display());
    if is_there(path, "the identity file", &hint, Some(user), found)
        && let Err(error) = Identity::load(&path.value)
    {
        bad_key(path, "the identity file", &error, found);
    }
}

fn password(path: &Spanned<PathBuf>, user: u32, found: &Diagnostics) {
    let hint = "write the password of the authentication key into it, mode 0600";
    if is_there(path, "the password file", hint, Some(user), found) {
        not_empty(path, "the password file", hint, found);
    }
}

fn pin(path: &Spanned<PathBuf>, user: u32, found: &Diagnostics) {
    let hint = "write the user PIN of the token into it, mode 0600";
    if is_there(path, "the PIN file", hint, Some(user), found) {
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
    if !is_there(path, "the state file", hint, None, found) {
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

/// Whether the file can be looked into. Says so when not, and warns when a secret is not private to its user.
fn is_there(path: &Spanned<PathBuf>, what: &str, hint: &str, user: Option<u32>, found: &Diagnostics) -> bool {
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
            if let Some(user) = user {
                private(path, what, &metadata, user, found);
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

fn private(path: &Spanned<PathBuf>, what: &str, metadata: &Metadata, user: u32, found: &Diagnostics) {
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
    let owner = metadata.uid();
    // Root may own a service's secrets, and reads all of them anyway.
    if owner != 0 && owner != user {
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
