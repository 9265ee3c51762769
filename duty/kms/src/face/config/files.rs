//! Looks at the files that configurations name: there, readable, private, and holding what they should.
//!
//! Nothing is changed and nothing is made. What is inside a key or a state file is for [`Contents`] to say; [`FileContents`]
//! knows lengths and outer shapes, a caller with key and ledger libraries can give one that knows more.

use super::codes;
use super::schema::{Chain, Config, KeyType, Password, Softsign, SoftsignFormat};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Access, access};
use semel_ops::code::Code;
use semel_ops::config::{Diagnostic, Diagnostics, Spanned};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Bytes of a key, password or state file.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Bytes of a seed, an account key, an identity.
const KEY_BYTES: usize = 32;
/// Permission bits of others than the owner.
const OTHERS: u32 = 0o077;

/// What is wrong inside a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// What it is, without the path: `the decoded key has 33 bytes`.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Flaw {
    /// A flaw with what to do about it.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Flaw {
        Flaw { message: message.into(), hint: Some(hint.into()) }
    }
}

/// Looks inside files that exist and are readable.
pub trait Contents {
    /// Looks at a key; says its public key as text, if it can, so that one key under two paths is found.
    ///
    /// # Errors
    /// When the file holds no such key.
    fn key(&self, softsign: &Softsign) -> Result<Option<String>, Flaw>;

    /// Looks at the identity of an encrypted connection.
    ///
    /// # Errors
    /// When the file holds none.
    fn identity(&self, path: &Path) -> Result<(), Flaw>;

    /// Looks at the state file of a chain.
    ///
    /// # Errors
    /// When it is no state file.
    fn state(&self, chain: &Chain) -> Result<(), Flaw>;
}

/// Lengths and outer shapes only.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileContents;

impl Contents for FileContents {
    fn key(&self, softsign: &Softsign) -> Result<Option<String>, Flaw> {
        let bytes = slurp(&softsign.path.value).map_err(unreadable)?;
        match (softsign.key_format, softsign.key_type) {
            (SoftsignFormat::Json, _) => node_key(&bytes),
            (SoftsignFormat::Base64, KeyType::Consensus) => encoded(&bytes, &[KEY_BYTES, 64, 96]),
            (SoftsignFormat::Base64, KeyType::Account) => encoded(&bytes, &[KEY_BYTES]),
        }?;
        Ok(None)
    }

    fn identity(&self, path: &Path) -> Result<(), Flaw> {
        encoded(&slurp(path).map_err(unreadable)?, &[KEY_BYTES])
    }

    fn state(&self, chain: &Chain) -> Result<(), Flaw> {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(rename = "height")]
            _height: IgnoredAny,
        }
        let hint = "it says what was signed last: restore it from a backup, never start without it";
        let bytes = slurp(&chain.state_file.value).map_err(unreadable)?;
        if bytes.trim_ascii().is_empty() {
            return Err(Flaw::new("it is empty", hint));
        }
        let outcome = serde_json::from_slice::<Outer>(&bytes);
        outcome.map(|_| ()).map_err(|error| Flaw::new(error.to_string(), hint))
    }
}

fn unreadable(error: io::Error) -> Flaw {
    Flaw { message: error.to_string(), hint: None }
}

fn encoded(bytes: &[u8], lengths: &[usize]) -> Result<(), Flaw> {
    // As tm-signer-harness writes it.
    if bytes.len() == KEY_BYTES {
        return Ok(());
    }
    let expected = lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let hint = format!("the base64 of {expected} bytes is expected; restore the file from a backup");
    let text = bytes.trim_ascii();
    if text.first() == Some(&b'{') {
        let hint =
            "for a node's priv_validator_key.json set key_format = \"json\", or convert it with `softsign import`";
        return Err(Flaw::new("it is JSON, not base64", hint));
    }
    match STANDARD.decode(text).map(Zeroizing::new) {
        Ok(key) if lengths.contains(&key.len()) => Ok(()),
        Ok(key) => Err(Flaw::new(format!("the decoded key has {} bytes", key.len()), hint)),
        Err(_) => Err(Flaw::new("it is not base64", hint)),
    }
}

fn node_key(bytes: &[u8]) -> Result<(), Flaw> {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(rename = "priv_key")]
        _priv_key: IgnoredAny,
    }
    // The error of the parser is not repeated: it could quote the key.
    let shape = serde_json::from_slice::<Outer>(bytes);
    shape.map(|_| ()).map_err(|_| {
        Flaw::new(
            "it is not the JSON of a node's key",
            "key_format = \"json\" is for priv_validator_key.json; leave it away for base64",
        )
    })
}

fn slurp(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for everything at once, so that no copy is left behind by growth.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX.try_into().unwrap_or(0)));
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What was learned that is needed across files.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Path of a key file and the public key in it.
    pub(super) public_keys: Vec<(PathBuf, String)>,
}

pub(super) fn check(configs: &[Config], contents: &dyn Contents, found: &Diagnostics) -> Facts {
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
            match contents.key(softsign) {
                Ok(Some(key)) => facts.public_keys.push((softsign.path.value.clone(), key)),
                Ok(None) => {}
                Err(flaw) => flawed(&codes::KEY_FILE, &softsign.path, "the key file", flaw, found),
            }
        }
        for path in config.validators.iter().filter_map(|validator| validator.secret_key.as_ref()) {
            let hint = format!("make it: head -c 32 /dev/urandom | base64 > {0} && chmod 600 {0}", path.display());
            if is_there(path, "the identity file", &hint, true, found)
                && let Err(flaw) = contents.identity(path)
            {
                flawed(&codes::KEY_FILE, path, "the identity file", flaw, found);
            }
        }
        for device in &config.yubihsm {
            if let Password::File(path) = &device.auth.password {
                let hint = "write the password of the authentication key into it, mode 0600";
                is_there(path, "the password file", hint, true, found);
            }
        }
        for chain in &config.chains {
            state(chain, contents, found);
        }
    }
    facts
}

fn state(chain: &Chain, contents: &dyn Contents, found: &Diagnostics) {
    let path = &chain.state_file;
    directory(path, found);
    if !path.exists() && !chain.require_state {
        return;
    }
    let hint = "it says what was signed last: restore it, or, for a key that never signed, leave require_state away";
    if is_there(path, "the state file", hint, false, found)
        && let Err(flaw) = contents.state(chain)
    {
        flawed(&codes::STATE_FILE, path, "the state file", flaw, found);
    }
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

fn flawed(code: &'static Code, path: &Spanned<PathBuf>, what: &str, flaw: Flaw, found: &Diagnostics) {
    let message = format!("{what} {} is not valid: {}", path.display(), flaw.message);
    found.push(Diagnostic::error(code, &path.place, message).maybe_hint(flaw.hint));
}
