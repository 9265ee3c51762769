//! What can go wrong with a key file, each with a stable code and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// A key file that cannot be used or made.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct KeyError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub kind: KeyErrorKind,
}

/// What is wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyErrorKind {
    /// It cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It holds nothing.
    #[error("the file is empty")]
    Empty,
    /// It is not a file, or too large for a key.
    #[error("{0}")]
    NotAKeyFile(&'static str),
    /// It is not base64.
    #[error("not base64")]
    NotBase64,
    /// It has a length that no form of a key has.
    #[error("a key of {0} bytes; {1}")]
    Length(usize, &'static str),
    /// It is not a `priv_validator_key.json`.
    #[error("not a priv_validator_key.json: {0}")]
    NotJson(String),
    /// Its halves do not belong together.
    #[error("its public half does not belong to its secret half")]
    Mismatch,
    /// The bytes are no secret key.
    #[error("not a valid secret key of its algorithm")]
    Invalid,
    /// The file is there already.
    #[error("the file exists, and a key is never written over")]
    Exists,
}

impl KeyError {
    pub(crate) fn at(path: &Path, kind: impl Into<KeyErrorKind>) -> Self {
        Self { path: path.into(), kind: kind.into() }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self.kind {
            KeyErrorKind::Io(_) => "KEY-0001",
            KeyErrorKind::Empty => "KEY-0002",
            KeyErrorKind::NotAKeyFile(_) => "KEY-0003",
            KeyErrorKind::NotBase64 => "KEY-0004",
            KeyErrorKind::Length(..) => "KEY-0005",
            KeyErrorKind::NotJson(_) => "KEY-0006",
            KeyErrorKind::Mismatch => "KEY-0007",
            KeyErrorKind::Invalid => "KEY-0008",
            KeyErrorKind::Exists => "KEY-0009",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match &self.kind {
            KeyErrorKind::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                "make it with `softsign keygen PATH` or `softsign import priv_validator_key.json PATH`"
            }
            KeyErrorKind::Io(error) => match error.kind() {
                io::ErrorKind::PermissionDenied => "let the user that runs the signer own the file, mode 0600",
                io::ErrorKind::NotADirectory => "make the directory first, mode 0700",
                _ => "check the disk and the path, then try again",
            },
            KeyErrorKind::Empty | KeyErrorKind::NotAKeyFile(_) => "name the file that holds the key",
            KeyErrorKind::NotBase64 => "a file of key_format \"base64\" holds one base64 text",
            KeyErrorKind::Length(..) => {
                "32 bytes are a seed, 64 an expanded key or seed and public key, 96 a YubiHSM export"
            }
            KeyErrorKind::NotJson(_) => "name the node's own config/priv_validator_key.json",
            KeyErrorKind::Mismatch | KeyErrorKind::Invalid => "take the file from the node or a backup once more",
            KeyErrorKind::Exists => "name another path, or use --force, which keeps a dated copy",
        }
    }
}
