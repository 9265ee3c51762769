//! What is in a backup, once it is open: files, and what the ledger knew of each key. JSON, with a digest of each part.

use crate::floors::Floor;
use crate::look::highest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_guard::{Algorithm, ChainId, Lane, Mark, PublicKey, Subject};
use semel_ledger::Known;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Component, Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// Version of the format.
const SCHEMA: u32 = 1;

/// Longest file that is taken in, in bytes. A configuration has a few thousand.
pub(super) const FILE_MAX: u64 = 1 << 20;

/// Most files: as many configurations as a process takes, with the files that they name.
pub(super) const FILES_MAX: usize = 4096;

/// Most keys.
const KEYS_MAX: usize = 1 << 16;

/// Most lanes of a key. There are fewer kinds of duties.
const LANES_MAX: usize = 64;

/// Most answers of a lane. A ledger keeps 16.
const ANSWERS_MAX: usize = 64;

/// Longest name of a file, in bytes.
const NAME_MAX: usize = 1024;

/// Longest backup, open or closed, in bytes.
pub(super) const BACKUP_MAX: u64 = 64 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A configuration.
    Configuration,
    /// A key, identity, password or PIN that a configuration names.
    Secret,
}

impl Role {
    /// In a word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Secret => "secret",
        }
    }
}

/// A file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    /// Where it was, without the leading slash.
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) sha256: String,
    content: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.content.zeroize();
    }
}

/// What the ledger knew of a key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    algorithm: String,
    key: String,
    chain: String,
    /// It was handed over, and signed nothing any more.
    pub(super) handed_over: bool,
    /// How often it was handed over or deleted, and came back.
    #[serde(default)]
    pub(super) burials: u64,
    lanes: Vec<LaneRecord>,
}

/// What it knew of one kind of duty.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneRecord {
    lane: u16,
    /// Everything up to here is closed.
    floor: Option<[u64; 3]>,
    /// The last answers: where, and the digest of what was signed.
    answers: Vec<([u64; 3], String)>,
}

/// A backup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Archive {
    schema: u32,
    kind: String,
    pub(super) made: String,
    /// The ledger's directory.
    pub(super) ledger: String,
    pub(super) files: Vec<Stored>,
    pub(super) keys: Vec<KeyRecord>,
    /// SHA-256 over the keys, in hex.
    keys_sha256: String,
}

/// A backup that makes no sense.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("what is in it is no backup: {0}")]
    NotOne(String),
    #[error("it has version {0}, and this program knows version {SCHEMA}")]
    Version(u64),
    #[error("it has too many {0}")]
    TooMany(&'static str),
    #[error("{0} has another digest than when it was taken in")]
    Digest(String),
    #[error("{0} makes no sense")]
    Senseless(String),
    #[error("it names the file {0:?}, which is not below the directory it is restored into")]
    Outside(String),
}

impl ArchiveError {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::NotOne(_) => "BACKUP-0002",
            Self::Version(_) => "BACKUP-0003",
            Self::TooMany(_) => "BACKUP-0007",
            Self::Digest(_) | Self::Senseless(_) => "BACKUP-0004",
            Self::Outside(_) => "BACKUP-0010",
        }
    }
}

fn digest(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Stored {
    /// A file with this content, that is at this absolute path.
    pub(super) fn of(path: &Path, role: Role, content: &[u8]) -> Self {
        let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned();
        Self { name, role, sha256: digest(content), content: BASE64.encode(content) }
    }

    /// Its content, which is that of when it was taken in.
    pub(super) fn content(&self) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
        let bytes = Zeroizing::new(BASE64.decode(&self.content).unwrap_or_default());
        if bytes.len() as u64 > FILE_MAX {
            return Err(ArchiveError::TooMany("bytes in a file"));
        }
        (digest(&*bytes) == self.sha256).then_some(bytes).ok_or_else(|| ArchiveError::Digest(self.name.clone()))
    }

    /// Its place below a directory.
    pub(super) fn below(&self, directory: &Path) -> Result<PathBuf, ArchiveError> {
        let path = Path::new(&self.name);
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)))
            && !self.name.is_empty()
            && self.name.len() <= NAME_MAX
            && !self.name.chars().any(char::is_control);
        is_plain.then(|| directory.join(path)).ok_or_else(|| ArchiveError::Outside(self.name.clone()))
    }
}

impl KeyRecord {
    pub(super) fn of(known: &Known) -> Self {
        let lane = |(lane, history): &(Lane, std::sync::Arc<semel_guard::History>)| LaneRecord {
            lane: lane.code(),
            floor: highest(*lane, history).map(|mark| mark.0),
            answers: history.recent.iter().map(|entry| (entry.mark.0, entry.digest.to_string())).collect(),
        };
        Self {
            algorithm: known.subject.key.algorithm().to_string(),
            key: known.subject.key.to_string(),
            chain: known.subject.chain.to_string(),
            handed_over: known.buried,
            burials: known.burials,
            lanes: known.lanes.iter().map(lane).collect(),
        }
    }

    /// Whose key it is.
    pub(super) fn subject(&self) -> Option<Subject> {
        let key = PublicKey::new(Algorithm::from_name(&self.algorithm)?, &hex::decode(&self.key).ok()?).ok()?;
        Some(Subject { key, chain: ChainId::new(&self.chain).ok()? })
    }

    /// What it closes: the floor, and every answer. None: something in it makes no sense.
    pub(super) fn floors(&self) -> Option<Vec<Floor>> {
        let subject = self.subject()?;
        let mut floors = Vec::new();
        for record in &self.lanes {
            let lane = Lane::from_code(record.lane)?;
            let marks = record.floor.into_iter().chain(record.answers.iter().map(|(mark, _)| *mark)).map(Mark);
            let mark = marks.reduce(|a, b| lane.higher(a, b));
            floors.extend(mark.map(|mark| Floor { subject: subject.clone(), lane, mark }));
        }
        Some(floors)
    }
}

impl Archive {
    pub(super) fn new(made: String, ledger: &Path, files: Vec<Stored>, keys: Vec<KeyRecord>) -> Self {
        let mut archive = Self {
            schema: SCHEMA,
            kind: "semel-backup".into(),
            made,
            ledger: ledger.display().to_string(),
            files,
            keys,
            keys_sha256: String::new(),
        };
        archive.keys_sha256 = archive.digest_of_keys();
        archive
    }

    fn digest_of_keys(&self) -> String {
        digest(serde_json::to_string(&self.keys).unwrap_or_default())
    }

    pub(super) fn render(&self) -> serde_json::Result<Zeroizing<Vec<u8>>> {
        serde_json::to_vec(self).map(Zeroizing::new)
    }

    /// Reads a backup, and checks every digest, name, key and floor in it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ArchiveError> {
        /// The version alone, before anything that another version may have changed.
        #[derive(Deserialize)]
        struct Head {
            schema: u64,
        }
        let not_one = |error: serde_json::Error| ArchiveError::NotOne(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(not_one)?;
        if head.schema != u64::from(SCHEMA) {
            return Err(ArchiveError::Version(head.schema));
        }
        let archive: Self = serde_json::from_slice(bytes).map_err(not_one)?;
        if archive.kind != "semel-backup" {
            return Err(ArchiveError::NotOne("it is something else".into()));
        }
        let lanes = || archive.keys.iter().flat_map(|key| &key.lanes);
        let counts = [
            (archive.files.len() > FILES_MAX, "files"),
            (archive.keys.len() > KEYS_MAX, "keys"),
            (archive.keys.iter().any(|key| key.lanes.len() > LANES_MAX), "lanes"),
            (lanes().any(|lane| lane.answers.len() > ANSWERS_MAX), "answers"),
        ];
        if let Some((_, what)) = counts.into_iter().find(|(is_over, _)| *is_over) {
            return Err(ArchiveError::TooMany(what));
        }
        if archive.digest_of_keys() != archive.keys_sha256 {
            return Err(ArchiveError::Digest("the list of keys".into()));
        }
        for file in &archive.files {
            file.below(Path::new(""))?;
            file.content()?;
        }
        for key in &archive.keys {
            key.floors().ok_or_else(|| ArchiveError::Senseless(format!("the entry of key {:.20}", key.key)))?;
        }
        Ok(archive)
    }

    /// What it closes.
    pub(super) fn floors(&self) -> Vec<Floor> {
        self.keys.iter().filter_map(KeyRecord::floors).flatten().collect()
    }
}
