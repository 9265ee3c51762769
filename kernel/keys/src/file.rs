//! Files that hold secrets: read whole and bounded, written new and durable, looked at with suspicion.

use crate::error::{KeyError, KeyErrorKind};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest key file, in bytes. A priv_validator_key.json has 350.
const LEN_MAX: u64 = 64 * 1024;

/// Something about a key file that an operator should mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Its mode lets others read or write it.
    Mode {
        /// Permission bits.
        mode: u32,
    },
    /// Somebody else owns it.
    Owner {
        /// User id of the owner.
        owner: u32,
        /// User id of this process.
        user: u32,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mode { mode } => write!(f, "mode {mode:04o} lets others reach it; it should be 0600"),
            Self::Owner { owner, user } => write!(f, "owned by user {owner}, and this process runs as user {user}"),
        }
    }
}

/// What is not right about the mode and owner of a secret file. An absent file has no findings.
pub fn inspect(path: &Path) -> Vec<Finding> {
    let Ok(meta) = fs::metadata(path) else { return Vec::new() };
    let mode = meta.mode() & 0o7777;
    let (owner, user) = (meta.uid(), rustix::process::geteuid().as_raw());
    let mode = (mode & 0o077 != 0).then_some(Finding::Mode { mode });
    let owner = (owner != user && user != 0).then_some(Finding::Owner { owner, user });
    mode.into_iter().chain(owner).collect()
}

/// The whole of a secret file.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let at = |kind: KeyErrorKind| KeyError::at(path, kind);
    let file = File::open(path).map_err(|error| at(error.into()))?;
    let meta = file.metadata().map_err(|error| at(error.into()))?;
    if !meta.is_file() {
        return Err(at(KeyErrorKind::NotAKeyFile("not a file")));
    }
    if meta.len() > LEN_MAX {
        return Err(at(KeyErrorKind::NotAKeyFile("too large for a key")));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LEN_MAX as usize));
    file.take(LEN_MAX).read_to_end(&mut bytes).map_err(|error| at(error.into()))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(at(KeyErrorKind::Empty));
    }
    Ok(bytes)
}

/// Writes a new secret file, durable with its name. One that is there stays, unless `replace` names the date under which it is
/// kept as a copy.
pub(crate) fn write_new(path: &Path, content: &[u8], replace: Option<&str>) -> Result<Option<PathBuf>, KeyError> {
    let at = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::at(path, KeyErrorKind::Exists),
        _ => KeyError::at(path, error),
    };
    let mut kept = None;
    if let (true, Some(date)) = (path.exists(), replace) {
        let mut copy = path.as_os_str().to_owned();
        copy.push(format!(".{date}"));
        let copy = PathBuf::from(copy);
        // A link does not overwrite an older copy, as a rename would.
        fs::hard_link(path, &copy).and_then(|()| fs::remove_file(path)).map_err(at)?;
        kept = Some(copy);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(at)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(at)?;
    Ok(kept)
}
