//! `handover`: a key moves to another host. Here it is dead before the file that lets it live there exists.
//!
//! The file holds public things only: which key, which chain, how far it signed. The key itself goes its own way.

use crate::look::{Which, highest};
use crate::{Place, ledger_report, said, write_new};
use clap::Subcommand;
use semel_guard::{Algorithm, ChainId, Lane, Ledger, Mark, Order, PublicKey, Subject};
use semel_ledger::{Journal, Known};
use semel_ops::clock::{rfc_3339, seconds};
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Version of the file's format.
const SCHEMA: u32 = 1;

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// Lanes of one file, at most.
const LANES_MAX: usize = 256;

/// `handover`
#[derive(Debug, Subcommand)]
pub enum Handover {
    /// Let a key go: nothing is signed with it here any more, and a file tells the next host how far it signed
    Export {
        /// Which ledger
        #[command(flatten)]
        place: Place,
        /// Which keys
        #[command(flatten)]
        which: Which,
        /// File to make
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Show what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Take a key: everything that it signed elsewhere is closed here, and a few heights above it
    Accept {
        /// Which ledger
        #[command(flatten)]
        place: Place,
        /// Show what would be done
        #[arg(long)]
        dry_run: bool,
        /// The file of `handover export`
        file: PathBuf,
    },
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoverFile {
    schema: u32,
    kind: String,
    /// 16 random bytes in hex: which handover it is.
    id: String,
    algorithm: String,
    key: String,
    chain: String,
    /// Number of a lane, and the highest position that is closed in it.
    lanes: Vec<(u16, [u64; 3])>,
    made: String,
    /// SHA-256 over everything above, in hex.
    digest: String,
}

/// A handover that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct HandoverError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: HandoverErrorKind,
}

/// What is wrong with a handover.
#[derive(Debug, thiserror::Error)]
pub enum HandoverErrorKind {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It cannot be made. The key is as it was.
    #[error("{0}")]
    Unmade(std::io::Error),
    /// The key is let go, and the file was not written.
    #[error("{0}")]
    Unwritten(std::io::Error),
    /// No handover, or cut off.
    #[error("no handover file: {0}")]
    NotOne(String),
    /// Its digest is another one.
    #[error("it was edited, or damaged on the way")]
    Edited,
    /// A later version.
    #[error("a handover of version {0}")]
    Version(u32),
    /// Here the key signed higher than the file knows.
    #[error("here the key signed up to {here}, and the file ends at {file}")]
    Older {
        /// What is known here.
        here: String,
        /// What the file says.
        file: String,
    },
}

impl HandoverError {
    fn at(path: &Path, kind: impl Into<HandoverErrorKind>) -> Self {
        Self { path: path.into(), kind: kind.into() }
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self.kind {
            HandoverErrorKind::Io(_) | HandoverErrorKind::Unmade(_) | HandoverErrorKind::Unwritten(_) => {
                "HANDOVER-0001"
            }
            HandoverErrorKind::NotOne(_) => "HANDOVER-0002",
            HandoverErrorKind::Edited => "HANDOVER-0003",
            HandoverErrorKind::Version(_) => "HANDOVER-0004",
            HandoverErrorKind::Older { .. } => "HANDOVER-0005",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self.kind {
            HandoverErrorKind::Unmade(_) => {
                "the key was not let go; name a file that is not there, in a directory that can be written"
            }
            HandoverErrorKind::Unwritten(_) => {
                "the key is let go already; run the same command again, and it writes the file"
            }
            HandoverErrorKind::Io(_) | HandoverErrorKind::NotOne(_) => "name the file that `handover export` made",
            HandoverErrorKind::Edited => {
                "copy the file again; if it is lost, run `handover export` at the source again"
            }
            HandoverErrorKind::Version(_) => "use the version of this program that made it, or a newer one",
            HandoverErrorKind::Older { .. } => {
                "the file is not the last word of this key: find out who signs with it before anything else"
            }
        }
    }

    fn report(&self) -> Report {
        let report = Report::of(self).code_id(self.code()).hint(self.hint());
        match self.kind {
            HandoverErrorKind::Older { .. } => report.exit(Exit::Unsafe),
            _ => report,
        }
    }
}

impl HandoverFile {
    fn of(known: &Known, seconds: u64) -> Result<Self, Report> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Report::new(format!("no randomness: {error}")))?;
        let lanes = known.lanes.iter().filter_map(|(lane, history)| Some((lane.code(), highest(*lane, history)?.0)));
        let mut file = Self {
            schema: SCHEMA,
            kind: "semel-handover".into(),
            id: hex::encode(id),
            algorithm: known.subject.key.algorithm().to_string(),
            key: known.subject.key.to_string(),
            chain: known.subject.chain.as_str().into(),
            lanes: lanes.collect(),
            made: rfc_3339(seconds),
            digest: String::new(),
        };
        file.digest = file.computed();
        Ok(file)
    }

    fn computed(&self) -> String {
        let bare = Self { digest: String::new(), ..self.clone() };
        hex::encode(Sha256::digest(serde_json::to_string(&bare).unwrap_or_default()))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Anything but a file of `handover export`, as it was made.
    pub fn read(path: &Path) -> Result<Self, HandoverError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        read.map_err(|error| HandoverError::at(path, error))?;
        let not_one = |why: String| HandoverError::at(path, HandoverErrorKind::NotOne(why));
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| not_one(error.to_string()))?;
        match value.get("schema").and_then(serde_json::Value::as_u64) {
            Some(version) if version != u64::from(SCHEMA) => {
                let version = u32::try_from(version).unwrap_or(u32::MAX);
                return Err(HandoverError::at(path, HandoverErrorKind::Version(version)));
            }
            _ => {}
        }
        let file: Self = serde_json::from_value(value).map_err(|error| not_one(error.to_string()))?;
        if file.kind != "semel-handover" || file.lanes.len() > LANES_MAX {
            return Err(not_one("it is something else".into()));
        }
        if file.computed() != file.digest {
            return Err(HandoverError::at(path, HandoverErrorKind::Edited));
        }
        Ok(file)
    }

    /// Whose key it is.
    fn subject(&self) -> Option<Subject> {
        let key = PublicKey::new(Algorithm::from_name(&self.algorithm)?, &hex::decode(&self.key).ok()?).ok()?;
        Some(Subject { key, chain: ChainId::new(&self.chain).ok()? })
    }

    /// The lanes, by name.
    fn marks(&self) -> Vec<(Lane, Mark)> {
        self.lanes.iter().filter_map(|(code, mark)| Some((Lane::from_code(*code)?, Mark(*mark)))).collect()
    }
}

impl Handover {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        match self {
            Self::Export { place, which, output, dry_run } => export(place, which, output, *dry_run, shell),
            Self::Accept { place, dry_run, file } => accept(place, file, *dry_run, shell),
        }
    }
}

fn one(place: &Place, which: &Which) -> Result<Known, Report> {
    let all = Journal::inspect(&place.directory()).map_err(|error| ledger_report(&error))?;
    let mut found: Vec<Known> = all.into_iter().filter(|known| which.takes(known)).collect();
    match (found.pop(), found.len()) {
        (Some(known), 0) => Ok(known),
        (None, _) => Err(Report::new("the ledger has no such key").hint("`ledger show` lists its keys")),
        (_, more) => Err(Report::new(format!("{} keys match", more + 1))
            .hint("name one with --key and --chain")
            .exit(Exit::Misuse)),
    }
}

fn export(place: &Place, which: &Which, output: &Path, dry_run: bool, shell: &Shell) -> Result<(), Report> {
    let known = one(place, which)?;
    let named = format!("key {} on {}", known.subject.key, known.subject.chain);
    if output.exists() {
        let error =
            std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the file exists, and is never written over");
        return Err(HandoverError::at(output, HandoverErrorKind::Unmade(error)).report());
    }
    if dry_run {
        shell.status("Would bury", format!("{named}, then write {}", output.display()));
        return Ok(());
    }
    let journal = place.open(std::slice::from_ref(&known.subject)).map_err(|error| ledger_report(&error))?;
    let failed = |why: semel_guard::Unavailable| Report::new(why.to_string());
    // A directory that takes no file shows while the key still lives.
    let unmade = |error| HandoverError::at(output, HandoverErrorKind::Unmade(error)).report();
    let mut draft = Draft::beside(output).map_err(unmade)?;
    // Dead here, durably, before anybody can know that it may live elsewhere.
    journal.bury(&known.subject, true).map_err(failed)?;
    journal.close().map_err(|error| ledger_report(&error))?;
    // What was reserved counts as signed, and is in what the ledger says now.
    let known = one(
        place,
        &Which { key: Some(known.subject.key.to_string()), chain: Some(known.subject.chain.as_str().into()) },
    )?;
    let file = HandoverFile::of(&known, seconds())?;
    let text = serde_json::to_string_pretty(&file).map_err(std::io::Error::from);
    let written = text.and_then(|text| draft.finish(output, format!("{text}\n").as_bytes()));
    written.map_err(|error| HandoverError::at(output, HandoverErrorKind::Unwritten(error)).report())?;
    shell.status("Let go", format!("{named}: this host signs nothing with it any more"));
    shell.status("Wrote", format!("{}; `semel handover accept` takes it on the other host", output.display()));
    Ok(())
}

/// A file that becomes the output. What is not finished is removed.
struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    fn beside(output: &Path) -> std::io::Result<Self> {
        let name = output.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let path = output.with_file_name(format!(".{name}.{}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file })
    }

    /// Gives it its name, durably; a file that is there is never written over.
    fn finish(&mut self, output: &Path, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()?;
        std::fs::hard_link(&self.path, output).or_else(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Err(error),
            // A file system without links.
            _ => write_new(output, bytes),
        })?;
        let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Its name is one of many; the file is under the other one, or not wanted.
        let _removed = std::fs::remove_file(&self.path);
    }
}

fn accept(place: &Place, path: &Path, dry_run: bool, shell: &Shell) -> Result<(), Report> {
    let file = HandoverFile::read(path).map_err(|error| error.report())?;
    let not_one = || HandoverError::at(path, HandoverErrorKind::NotOne("its key is none".into())).report();
    let subject = file.subject().ok_or_else(not_one)?;
    let named = format!("key {} on {}", subject.key, subject.chain);
    let directory = place.directory();
    let there = if directory.exists() {
        Journal::inspect(&directory).map_err(|error| ledger_report(&error))?
    } else {
        Vec::new()
    };
    let known = there.into_iter().find(|known| known.subject == subject);
    let was_buried = known.as_ref().is_some_and(|known| known.buried);
    for (lane, mark) in file.marks() {
        let here = known.as_ref().and_then(|known| {
            known.lanes.iter().find(|(other, _)| *other == lane).and_then(|(_, history)| highest(lane, history))
        });
        // Above what was accepted before, it signed here since.
        if let Some(here) = here.filter(|here| *here > lane.held(mark)) {
            let kind = HandoverErrorKind::Older { here: lane.show(here), file: lane.show(mark) };
            return Err(HandoverError::at(path, kind).report());
        }
        let open = match lane.order() {
            Order::Rising => format!("signs here from #{} on", lane.held(mark).0[0]),
            _ => "signs here above it".into(),
        };
        said(shell.line(format!("{named}: {lane} signed up to {}, {open}", lane.show(mark))))?;
    }
    if dry_run {
        shell.status("Would accept", named);
        return Ok(());
    }
    // A key that is new here holds until its floor is in: what ends in between leaves a key that waits.
    let journal = place.open(std::slice::from_ref(&subject)).map_err(|error| ledger_report(&error))?;
    let failed = |why: semel_guard::Unavailable| Report::new(why.to_string());
    for (lane, mark) in file.marks() {
        journal.raise(&subject, lane, lane.held(mark)).map_err(failed)?;
    }
    if known.is_none() && journal.hold(&subject).is_some() {
        journal.set_hold(&subject, None).map_err(failed)?;
    }
    if was_buried {
        journal.bury(&subject, false).map_err(failed)?;
        shell.status("Taken back", format!("{named}: it was handed over from this host before"));
    }
    journal.close().map_err(|error| ledger_report(&error))?;
    shell.status(
        "Accepted",
        format!("{named}; make sure that the other host has let go of it (`semel ledger show` there)"),
    );
    Ok(())
}
