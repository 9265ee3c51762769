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

/// The code with this id, in any case of letters.
pub fn find<'a>(lists: &[&[&'a Code]], id: &str) -> Option<&'a Code> {
    lists.iter().flat_map(|list| list.iter()).find(|code| code.id.eq_ignore_ascii_case(id)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    static ONE: Code = Code::local("TEST-0001", "one", "It is one.");
    static TWO: Code = Code::whole("TEST-0002", "two", "It is two.");

    #[test]
    fn a_code_is_found_in_any_list_and_any_case() {
        let lists: &[&[&Code]] = &[&[&ONE], &[&TWO]];
        assert_eq!(find(lists, "test-0002"), Some(&TWO));
        assert_eq!(find(lists, "TEST-0003"), None);
    }
}
