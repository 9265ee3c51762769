//! Why a benchmark says nothing, or something that does not count.

use semel_ops::error::{Exit, Report};
use std::io;
use std::path::PathBuf;

/// Why a benchmark ends with an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("cannot measure in {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    #[error("{0} does not start")]
    Start(String, #[source] io::Error),
    #[error("the report is not written to {}", .0.display())]
    Report(PathBuf, #[source] io::Error),
    #[error("there is no strace on the PATH")]
    NoStrace,
    #[error("syscalls were not counted for {0}: {1}")]
    NotCounted(String, String),
    #[error("{0} of {1} requests were refused or have no answer that verifies")]
    Errors(u64, u64),
    #[error("{0} processes are more than {1} validators")]
    Processes(u16, u16),
}

/// Each code with its words, as `semel explain` tells them.
pub(super) const EXPLAINED: [(&str, &str); 7] = [
    (
        "BENCH-0001",
        "A directory cannot be measured in. The user of the benchmark must be able to write where --dir says.",
    ),
    ("BENCH-0002", "A signer that is to be measured does not start. Name it by its path in --against."),
    ("BENCH-0003", "The report of a benchmark is not written. What was measured is in the table all the same."),
    ("BENCH-0004", "Syscalls are counted by strace, which is not there. Install it, or leave --syscalls out."),
    (
        "BENCH-0005",
        "Requests of a benchmark were refused, or have no answer that verifies. The figures count the others only.",
    ),
    ("BENCH-0006", "A benchmark has more processes than validators. Each process needs one."),
    (
        "BENCH-0007",
        "A signer did not sign while strace counted its syscalls. This user must be allowed to trace processes.",
    ),
];

impl Trouble {
    const fn code(&self) -> &'static str {
        match self {
            Self::Directory(..) => "BENCH-0001",
            Self::Start(..) => "BENCH-0002",
            Self::Report(..) => "BENCH-0003",
            Self::NoStrace => "BENCH-0004",
            Self::Errors(..) => "BENCH-0005",
            Self::Processes(..) => "BENCH-0006",
            Self::NotCounted(..) => "BENCH-0007",
        }
    }

    const fn hint(&self) -> &'static str {
        match self {
            Self::Directory(..) => "name a directory that this user may write, with --dir",
            Self::Start(..) => "name the signer by its path, in --against",
            Self::Report(..) => "name a directory that this user may write, with --report",
            Self::NoStrace => "install strace, or leave --syscalls out",
            Self::Errors(..) => "the table says whose, and what the first was",
            Self::Processes(..) => "give each process a validator: raise --validators",
            Self::NotCounted(..) => "run `strace -c true` to see whether this user may trace; or leave --syscalls out",
        }
    }
}

impl From<Trouble> for Report {
    fn from(trouble: Trouble) -> Self {
        let exit = match trouble {
            Trouble::Processes(..) => Exit::Misuse,
            _ => Exit::Failed,
        };
        Self::of(&trouble).code_id(trouble.code()).hint(trouble.hint()).exit(exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_once() {
        let io = || io::Error::other("x");
        let all = [
            Trouble::Directory(PathBuf::new(), io()),
            Trouble::Start(String::new(), io()),
            Trouble::Report(PathBuf::new(), io()),
            Trouble::NoStrace,
            Trouble::Errors(1, 2),
            Trouble::Processes(2, 1),
            Trouble::NotCounted(String::new(), String::new()),
        ];
        assert_eq!(all.map(|trouble| trouble.code()), EXPLAINED.map(|(code, _)| code));
    }
}
