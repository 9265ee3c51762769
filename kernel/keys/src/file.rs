//! Files that hold secrets: read whole and bounded, written new and durable, looked at with suspicion.

use crate::error::{KeyError, KeyErrorKind};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustix::fs::RenameFlags;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
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

/// The whole of a secret file, at most 64 KiB. Links are followed: mounted secrets are links.
///
/// # Errors
/// It is no file, is empty or too large, or cannot be read.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let at = |kind: KeyErrorKind| KeyError::at(path, kind);
    // A pipe that nobody writes must not stop the start.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| at(error.into()))?;
    let meta = file.metadata().map_err(|error| at(error.into()))?;
    if !meta.is_file() {
        return Err(at(KeyErrorKind::NotAKeyFile("not a file")));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LEN_MAX as usize + 1));
    file.take(LEN_MAX + 1).read_to_end(&mut bytes).map_err(|error| at(error.into()))?;
    if bytes.len() as u64 > LEN_MAX {
        return Err(at(KeyErrorKind::NotAKeyFile("too large for a key")));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(at(KeyErrorKind::Empty));
    }
    Ok(bytes)
}

/// With or without `=` at the end, as tmkms reads it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes that a base64 text stands for; white space around it does not count.
pub(crate) fn decode(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyErrorKind> {
    let text = text.trim_ascii();
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    // In place, so that what was decoded before an error is wiped, too.
    let len = BASE64.decode_slice(text, &mut bytes).map_err(|_| KeyErrorKind::NotBase64)?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Writes a new secret file, whole or not at all, and durable with its name. One that is there stays, unless `replace` names
/// the date under which it is kept as a copy.
pub fn write_new(path: &Path, content: &[u8], replace: Option<&str>) -> Result<Option<PathBuf>, KeyError> {
    let at = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => KeyError::at(path, KeyErrorKind::Exists),
        io::ErrorKind::NotFound => {
            let text = "its directory does not exist";
            KeyError::at(path, io::Error::new(io::ErrorKind::NotADirectory, text))
        }
        _ => KeyError::at(path, error),
    };
    let name = path.file_name().ok_or_else(|| KeyError::at(path, KeyErrorKind::NotAKeyFile("not a file name")))?;
    let is_there = fs::symlink_metadata(path).is_ok();
    if is_there && replace.is_none() {
        return Err(KeyError::at(path, KeyErrorKind::Exists));
    }
    // What a crash leaves under such a name is a key that nobody ever had.
    let random = getrandom::u64().map_err(|error| at(io::Error::other(error.to_string())))?;
    let temporary = path.with_file_name(format!(".{}.{random:016x}", name.to_string_lossy()));
    let placed = write_whole(&temporary, content).and_then(|()| {
        let copy = replace.filter(|_| is_there).map(|date| {
            let mut copy = path.as_os_str().to_owned();
            copy.push(format!(".{date}"));
            PathBuf::from(copy)
        });
        // A link does not overwrite an older copy, as a rename would.
        match &copy {
            Some(copy) => fs::hard_link(path, copy).and_then(|()| fs::rename(&temporary, path))?,
            None => rename_new(&temporary, path)?,
        }
        Ok(copy)
    });
    if placed.is_err() {
        let _gone = fs::remove_file(&temporary);
    }
    let copy = placed.map_err(at)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(at)?;
    Ok(copy)
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask may have taken away what the owner needs.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Gives a file its name, which nothing may have.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, from, cwd, to, RenameFlags::NOREPLACE) {
        // A file system without this flag.
        Err(rustix::io::Errno::INVAL) => fs::hard_link(from, to).and_then(|()| fs::remove_file(from)),
        other => Ok(other?),
    }
}
