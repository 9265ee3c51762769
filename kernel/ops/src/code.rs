//! Stable codes: `CONFIG-0003` and its kin.
//!
//! A code never changes its meaning and is never used again; messages may be reworded, codes may be searched for. Each
//! crate keeps its codes in one list; the binary puts the lists together and serves `explain CODE` from them.

use std::fmt;

/// A stable code with what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `AREA-NNNN`.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// One paragraph: what it means, why it is checked, what to do.
    pub explanation: &'static str,
    /// The finding needs the whole file: it is held back when part of the file could not be read, because the part that
    /// is missing may be the part that was not read.
    pub whole: bool,
}

impl Code {
    /// A code whose finding stands on one line of a file alone.
    pub const fn local(id: &'static str, title: &'static str, explanation: &'static str) -> Code {
        Code { id, title, explanation, whole: false }
    }

    /// A code whose finding is about what is *not* there, or about two places.
    pub const fn whole(id: &'static str, title: &'static str, explanation: &'static str) -> Code {
        Code { id, title, explanation, whole: true }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}
