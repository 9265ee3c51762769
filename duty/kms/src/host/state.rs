//! The state file of tmkms and the ledger, held against each other.
//!
//! At the start the higher of the two counts. While signing, each position goes to the ledger first and to the file before
//! the answer leaves, so that `jq -r .height` and a step back to tmkms always work.

use crate::core::sign_bytes;
use crate::wire::{self, Family, SignedType, Vote};
use ed25519_dalek::VerifyingKey;
use semel_guard::{
    Advance, Algorithm, Digest, Entry, History, Lane, Ledger, Mark, Signature, Step, Subject, Unavailable,
};
use semel_ledger::interchange::{
    BlockId, Dialect, Mirror, MirrorError, StateFile, StateFileError, StateWarning, floor_of,
};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Round that stands for "every round" in a state file.
const EVERY_ROUND: u32 = i32::MAX as u32;

/// Longest state file, in bytes. tmkms's has 250, horcrux's about 1,000.
const STATE_FILE_MAX: u64 = 64 * 1024;

/// A state file that stops the start.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not a state.
    #[error("{}: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        error: StateFileError,
    },
    /// It cannot be kept up to date.
    #[error("{}: {error}", path.display())]
    Mirror {
        /// The file.
        path: PathBuf,
        /// Why.
        error: MirrorError,
    },
    /// It is missing, and `require_state` says that it must be there.
    #[error("{}: missing, and require_state is set", .0.display())]
    Missing(PathBuf),
    /// The ledger.
    #[error("ledger: {0}")]
    Ledger(#[from] Unavailable),
}

impl StateError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "STATE-0101",
            Self::Parse { error, .. } => error.code(),
            Self::Mirror { error, .. } => error.code(),
            Self::Missing(_) => "STATE-0102",
            Self::Ledger(_) => "STATE-0103",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } | Self::Mirror { .. } => {
                "let the user that runs the signer read and write the file and its directory"
            }
            Self::Parse { error: StateFileError::Foreign { .. }, .. } => "name the state_file of this key and chain",
            Self::Parse { .. } => {
                "put the right file back; if it is lost, `state set-floor` above every height this key may have signed"
            }
            Self::Missing(_) => "put the file in place, or `state set-floor` and take require_state away",
            Self::Ledger(_) => "see the ledger's own error",
        }
    }
}

/// What the comparison at the start found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateNews {
    /// Neither knew anything: there is no protection against what was signed elsewhere.
    Fresh(PathBuf),
    /// Both say the same.
    Same(String),
    /// The file was ahead; the ledger's floor rose to it.
    Adopted(String),
    /// The file was behind, and was written again.
    Stale {
        /// What the file said.
        file: String,
        /// What the ledger says.
        ledger: String,
    },
    /// The file was missing, and was written again.
    Rewritten(String),
}

impl StateNews {
    /// Whether an operator should read it.
    pub fn is_alarming(&self) -> bool {
        matches!(self, Self::Fresh(_) | Self::Stale { .. } | Self::Rewritten(_))
    }
}

impl fmt::Display for StateNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh(path) => write!(
                f,
                "no state for this key: {} was created at height 0. If this key ever signed elsewhere, stop now and import \
                 that state: `state import FILE` (STATE-0108)",
                path.display()
            ),
            Self::Same(position) => write!(f, "state: {position}"),
            Self::Adopted(position) => write!(f, "the state file is ahead of the ledger; the floor is now {position}"),
            Self::Stale { file, ledger } => {
                write!(
                    f,
                    "the state file says {file}, the ledger says {ledger}: the ledger counts, the file is written again; find out who \
                     put an older one there, and that no other signer has the key (STATE-0106)"
                )
            }
            Self::Rewritten(position) => write!(
                f,
                "the state file was missing; the ledger says {position} and the file is written again (a floor is never \
                 lowered: for a new test network use another ledger, `--ledger DIR`); find out who took it away (STATE-0107)"
            ),
        }
    }
}

/// Reads a state file. None: there is none.
pub fn read(path: &Path) -> Result<Option<StateFile>, StateError> {
    use std::io::Read;
    let io = |error| StateError::Io { path: path.into(), error };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    file.take(STATE_FILE_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    StateFile::parse(&bytes).map(Some).map_err(|error| StateError::Parse { path: path.into(), error })
}

/// What the ledger knows, as a state file.
pub fn state_of_history(subject: &Subject, history: &History) -> StateFile {
    let Some(floor) = history.floor else { return state_at(subject, Mark::default(), &[], None) };
    match history.recent.iter().rev().find(|entry| entry.mark == floor) {
        Some(Entry { bytes, signature, .. }) => state_at(subject, floor, bytes, signature.as_ref()),
        None => state_at(subject, floor, &[], None),
    }
}

/// What the state file is to say: the message at the ledger's floor, or, where a file of tmkms's is all that knows the block, that file.
///
/// Other files without their message do not say which block it was, and a file without one would say that it was nil.
pub fn mirrored(subject: &Subject, history: &History, file: Option<StateFile>) -> StateFile {
    let knows_more = |file: &StateFile| {
        let is_clear = file.dialect == Dialect::Tmkms && !file.warnings.contains(&StateWarning::UnclearStep);
        is_clear && floor_of(file) == history.floor && !is_whole(history)
    };
    match file.filter(knows_more) {
        Some(file) => {
            StateFile { chain_id: Some(subject.chain.to_string()), pub_key: Some(subject.key.to_string()), ..file }
        }
        None => state_of_history(subject, history),
    }
}

/// Whether the ledger has the message at its floor, and not only that something was signed there.
fn is_whole(history: &History) -> bool {
    history.recent.iter().any(|entry| Some(entry.mark) == history.floor && !entry.bytes.is_empty())
}

/// One position as a state file; the block is read from the sign bytes.
pub fn state_at(subject: &Subject, mark: Mark, bytes: &[u8], signature: Option<&Signature>) -> StateFile {
    let Mark([height, round, step]) = mark;
    let block = sign_bytes::read(bytes).ok().map(|canonical| canonical.block_id).filter(|block| !block.is_nil());
    // A floor between heights closes all of the height before. Where nobody knows what was signed, a file with no block would say that it was nil,
    // and a signer that reads it would sign nil once more: all of the height is closed instead.
    let (height, round, step) = match Step::from_code(step) {
        Some(_) if bytes.is_empty() => (height, EVERY_ROUND, Some(Step::Precommit)),
        Some(step) => (height, u32::try_from(round).unwrap_or(EVERY_ROUND), Some(step)),
        None if height == 0 => (0, 0, None),
        None => (height - 1, EVERY_ROUND, Some(Step::Precommit)),
    };
    StateFile {
        height,
        round,
        step,
        block_id: block.map(|block| BlockId {
            hash: block.hash,
            parts_total: block.parts.total,
            parts_hash: block.parts.hash,
        }),
        sign_bytes: (!bytes.is_empty()).then(|| bytes.to_vec()),
        signature: signature.map(|signature| signature.as_bytes().to_vec()),
        chain_id: Some(subject.chain.as_str().to_owned()),
        pub_key: Some(subject.key.to_string()),
        ..StateFile::default()
    }
}

/// The last answer of another signer, as far as its file tells: with its bytes, or (tmkms) with its content alone.
fn entry_of(state: &StateFile, subject: &Subject, mark: Mark) -> Option<Entry> {
    let (kind, height) = (state.step?, i64::try_from(state.height).ok()?);
    let chain = subject.chain.as_str();
    if let Some(bytes) = &state.sign_bytes {
        let canonical = sign_bytes::read(bytes).ok()?;
        let vote = canonical.to_vote()?;
        let says = Mark([u64::try_from(vote.height).ok()?, u64::try_from(vote.round).ok()?, kind as u64]);
        if says != mark || canonical.chain_id != chain || canonical.step() != kind {
            return None;
        }
        let content = Digest::of(&sign_bytes::vote(Family::Protobuf, &vote, chain).content);
        let signature = state.signature.as_deref().filter(|signature| is_by(subject, bytes, signature));
        let signature = signature.and_then(|signature| Signature::new(signature).ok());
        let bytes = bytes.as_slice().into();
        return Some(Entry { mark, digest: Digest::of(state.sign_bytes.as_ref()?), content, bytes, signature });
    }
    // A proposal's round of lock is not in the file; of the node's own file without sign bytes nothing is known.
    let code = match kind {
        Step::Prevote => SignedType::Prevote.code(),
        Step::Precommit => SignedType::Precommit.code(),
        Step::Propose => return None,
    };
    // Without a block in the file nobody knows which one was signed; nil is a block of its own. A file of ours that knows the message has it.
    if state.pub_key.is_some() && state.block_id.is_none() {
        return None;
    }
    let is_unclear = state.warnings.contains(&StateWarning::UnclearStep);
    if is_unclear || state.dialect != Dialect::Tmkms || mark.0 != [state.height, u64::from(state.round), kind as u64] {
        return None;
    }
    let block = state.block_id.clone().unwrap_or_default();
    let block_id = wire::BlockId {
        hash: block.hash,
        parts: wire::PartSetHeader { total: block.parts_total, hash: block.parts_hash },
    };
    let vote = Vote { kind: code, height, round: i64::from(state.round), block_id, ..Vote::default() };
    let content = Digest::of(&sign_bytes::vote(Family::Protobuf, &vote, chain).content);
    Some(Entry { mark, digest: content, content, bytes: Arc::new([]), signature: None })
}

/// Whether a signature is one of this key. Another one is made again from the bytes; a node would refuse it.
fn is_by(subject: &Subject, bytes: &[u8], signature: &[u8]) -> bool {
    let key =
        <[u8; 32]>::try_from(subject.key.as_bytes()).ok().filter(|_| subject.key.algorithm() == Algorithm::Ed25519);
    let key = key.and_then(|key| VerifyingKey::from_bytes(&key).ok());
    let signature = ed25519_dalek::Signature::from_slice(signature).ok();
    key.zip(signature).is_some_and(|(key, signature)| key.verify_strict(bytes, &signature).is_ok())
}

/// Puts an answer of another signer into the ledger.
fn adopt(ledger: &impl Ledger, subject: &Subject, entry: Entry) -> Result<(), StateError> {
    let version = ledger.history(subject, Lane::Tendermint)?.version;
    let why = match ledger.advance(subject, Lane::Tendermint, version, entry) {
        Advance::Committed(_) => return Ok(()),
        Advance::Conflict => "the state changed meanwhile".into(),
        Advance::Unknown(why) => why,
        Advance::Unavailable(why) => why.0,
    };
    Err(Unavailable(why).into())
}

/// Raises the ledger to what a state says, and puts the answer in, if the state holds it. False: the ledger stood there, or higher.
pub fn adopt_state(ledger: &impl Ledger, subject: &Subject, state: &StateFile) -> Result<bool, StateError> {
    let lane = Lane::Tendermint;
    let known = ledger.history(subject, lane)?.floor;
    let Some(wanted) = floor_of(state).filter(|wanted| known.is_none_or(|known| *wanted > known)) else {
        return Ok(false);
    };
    match entry_of(state, subject, wanted) {
        Some(entry) => adopt(ledger, subject, entry)?,
        None => ledger.raise(subject, lane, wanted)?,
    }
    Ok(true)
}

/// What the file and the ledger say, and what follows from it. Nothing is changed.
fn held_against(
    ledger: &impl Ledger,
    subject: &Subject,
    path: &Path,
    require: bool,
) -> Result<(Option<StateFile>, StateNews), StateError> {
    let lane = Lane::Tendermint;
    let file = read(path)?;
    if let Some(state) = &file {
        let owner = state.check_owner(subject.chain.as_str(), &subject.key.to_string());
        owner.map_err(|error| StateError::Parse { path: path.into(), error })?;
    }
    let known = ledger.history(subject, lane)?.floor;
    let news = match (file.as_ref().map(floor_of), known) {
        (None, None) if require => return Err(StateError::Missing(path.into())),
        (None, None) => StateNews::Fresh(path.into()),
        (None, Some(floor)) => StateNews::Rewritten(lane.show(floor)),
        (Some(None), None) => StateNews::Same("nothing signed yet".into()),
        (Some(Some(wanted)), floor) if floor.is_none_or(|floor| wanted > floor) => {
            StateNews::Adopted(lane.show(wanted))
        }
        (Some(said), Some(floor)) if said == Some(floor) => StateNews::Same(lane.show(floor)),
        (Some(said), floor) => StateNews::Stale {
            file: said.map_or("that nothing was signed".into(), |said| lane.show(said)),
            ledger: floor.map_or("that nothing was signed".into(), |floor| lane.show(floor)),
        },
    };
    Ok((file, news))
}

/// What both say, in words, for a start that changes neither.
pub fn preview(ledger: &impl Ledger, subject: &Subject, path: &Path, require: bool) -> Result<String, StateError> {
    let (file, _) = held_against(ledger, subject, path, require)?;
    let known = ledger.history(subject, Lane::Tendermint)?.floor;
    let said = |floor: Option<Mark>| floor.map_or("nothing signed".into(), |floor| Lane::Tendermint.show(floor));
    let file = file.map_or_else(|| "is missing".to_owned(), |file| format!("says {}", said(floor_of(&file))));
    Ok(format!("the state file {file}, the ledger says {}; a dry run changes neither", said(known)))
}

/// Writes a floor that rose since `before` into the file, too: a step back to another signer goes by the file alone.
pub fn follow(
    ledger: &impl Ledger,
    subject: &Subject,
    before: Option<Mark>,
    mirror: &mut Mirror,
    path: &Path,
) -> Result<(), StateError> {
    let history = ledger.history(subject, Lane::Tendermint)?;
    if history.floor > before {
        let state = state_of_history(subject, &history);
        mirror.write(&state).map_err(|error| StateError::Mirror { path: path.into(), error })?;
    }
    Ok(())
}

/// Brings the ledger and the file to the higher of what they say, and opens the file for writing.
pub fn reconcile(
    ledger: &impl Ledger,
    subject: &Subject,
    path: &Path,
    require: bool,
) -> Result<(Mirror, StateNews), StateError> {
    let (file, news) = held_against(ledger, subject, path, require)?;
    if let (StateNews::Adopted(_), Some(state)) = (&news, &file) {
        adopt_state(ledger, subject, state)?;
    }
    let failed = |error| StateError::Mirror { path: path.into(), error };
    let mut mirror = Mirror::open(path).map_err(failed)?;
    let history = ledger.history(subject, Lane::Tendermint)?;
    let state = mirrored(subject, &history, file);
    mirror.write(&state).map_err(failed)?;
    Ok((mirror, news))
}
