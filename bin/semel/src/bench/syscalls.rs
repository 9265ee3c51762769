//! Syscalls per signature: what `strace -f -c` counts in a long pass, less what it counts in a short one, so that start and end
//! fall out. A pass of its own, because a traced signer is slow.

use super::process::Signers;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Syscalls of one signer, per signature.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Syscalls {
    pub(crate) all: f64,
    pub(crate) fdatasync: f64,
    pub(crate) fsync: f64,
    /// Of every kind: `rename`, `renameat`, `renameat2`.
    pub(crate) rename: f64,
    /// Every kind that there is more than 0.005 of.
    pub(crate) by_name: BTreeMap<String, f64>,
}

/// How often each syscall was made.
pub(super) type Counts = BTreeMap<String, u64>;

/// Whether there is an strace to count with.
pub(super) fn can_be_counted() -> bool {
    let strace =
        Command::new("strace").arg("-V").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    strace.is_ok_and(|status| status.success())
}

/// The same commands, each under strace, and where their counts will be.
pub(super) fn traced(commands: Vec<Vec<String>>, home: &Path) -> (Vec<Vec<String>>, Vec<PathBuf>) {
    let counts: Vec<PathBuf> = (0..commands.len()).map(|index| home.join(format!("syscalls-{index}"))).collect();
    let under = |(command, counts): (Vec<String>, &PathBuf)| {
        let strace = ["strace", "-f", "-c", "-o", &counts.display().to_string(), "--"].map(str::to_owned);
        strace.into_iter().chain(command).collect()
    };
    (commands.into_iter().zip(&counts).map(under).collect(), counts)
}

/// Ends traced signers, and adds up what was counted.
pub(super) fn counted(signers: Signers, files: &[PathBuf]) -> io::Result<Counts> {
    signers.end_traced();
    let mut all = Counts::new();
    for file in files {
        for (name, count) in read(&std::fs::read_to_string(file)?) {
            *all.entry(name).or_default() += count;
        }
    }
    Ok(all)
}

/// The table of `strace -c`: share, seconds, microseconds per call, calls, errors if there were any, name.
fn read(table: &str) -> Counts {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first()?.parse::<f64>().ok()?;
        let (calls, name) = (words.get(3)?.parse().ok()?, *words.last()?);
        (name != "total").then(|| (name.to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}

impl Syscalls {
    /// What `signatures` more took.
    pub(super) fn between(short: &Counts, long: &Counts, signatures: u64) -> Self {
        let per = |name: &str, count: u64| {
            count.saturating_sub(short.get(name).copied().unwrap_or_default()) as f64 / signatures.max(1) as f64
        };
        let by_name: BTreeMap<String, f64> =
            long.iter().map(|(name, count)| (name.clone(), per(name, *count))).collect();
        let of =
            |wanted: &[&str]| wanted.iter().filter_map(|name| by_name.get(*name)).fold(0.0, |sum, count| sum + count);
        Self {
            all: by_name.values().sum(),
            fdatasync: of(&["fdatasync"]),
            fsync: of(&["fsync"]),
            rename: of(&["rename", "renameat", "renameat2"]),
            by_name: by_name.into_iter().filter(|(_, count)| *count > 0.005).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syscalls_are_those_that_a_longer_pass_has_more() {
        let short = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     60.00    0.000600           6       100           fdatasync\n \
                     40.00    0.000400           4        90         7 openat\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.001000           5       190         7 total\n";
        let long = short
            .replace(" 100 ", " 300 ")
            .replace("openat\n", "openat\n  0.00    0.000000           0       400           renameat2\n");
        let (short, long) = (read(short), read(&long));
        assert_eq!(short, Counts::from([("fdatasync".to_owned(), 100), ("openat".to_owned(), 90)]));
        let syscalls = Syscalls::between(&short, &long, 200);
        assert_eq!((syscalls.all, syscalls.fdatasync, syscalls.fsync, syscalls.rename), (3.0, 1.0, 0.0, 2.0));
        assert_eq!(syscalls.by_name.len(), 2, "{syscalls:?}");
    }
}
