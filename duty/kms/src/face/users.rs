//! Users of this host, and what they may do with a file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Read and write, as bits of a mode.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;

/// A user by its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    number: u32,
    group: u32,
}

impl User {
    /// From the password file; None: there is no such user.
    pub(super) fn named(name: &str) -> Option<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        let mut fields = passwd.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some(Self { number: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }

    /// Whether it may do this with a file that is there. Groups beyond its first are not looked at.
    pub(super) fn may(self, path: &Path, bits: u32) -> bool {
        std::fs::metadata(path).is_ok_and(|meta| {
            let shift = if meta.uid() == self.number {
                6
            } else if meta.gid() == self.group {
                3
            } else {
                0
            };
            self.number == 0 || (meta.mode() >> shift) & bits == bits
        })
    }
}

/// The name of a number in `/etc/passwd` or `/etc/group`.
pub(super) fn name_of(number: u32, table: &str) -> Option<String> {
    let text = std::fs::read_to_string(table).ok()?;
    let line = text.lines().find(|line| line.split(':').nth(2) == Some(&number.to_string()))?;
    line.split(':').next().map(str::to_owned)
}

/// The home of a user.
pub(super) fn home_of(name: &str) -> Option<PathBuf> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(5).map(PathBuf::from)
}
