//! One volume: four segments of records, used in turn by one process.
//!
//! A segment starts with a header and a checkpoint of everything the volume knows, so that the segment before it may be
//! written over. Reading back takes the segment of the highest generation whose checkpoint is complete, and follows
//! the chain of hashes from there. Three things are damage, and damage refuses:
//!
//! * a slot that is neither a record nor zeros (a disk tears between slots, never inside one);
//! * a record that claims that something beyond the end of the chain was durable;
//! * a segment that is shorter than its header says, or that belongs to another ledger, volume or place.

use crate::disk::{Disk, File, Open, create_filled, write_zeros};
use crate::error::{LedgerError, LedgerErrorKind};
use crate::record::{COUNT_MAX, Kind, Place, RECORD_LEN, Record, Slot, decode, half};
use crate::state::State;
use semel_guard::Mark;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Segments of a volume.
pub const SEGMENTS: u64 = 4;

/// Records of a segment, at least: 2 MiB. A checkpoint fills at most a quarter of its segment.
pub const SEGMENT_RECORDS_MIN: usize = 4096;

/// Keys for which the smallest segment is enough: with their longest histories a checkpoint of them fills a quarter of it.
const SEGMENT_SUBJECTS: usize = 25;

/// Records of a segment, at most: 512 MiB.
const SEGMENT_RECORDS_MAX: usize = 1 << 20;

/// Bytes of the buffer that are kept after a checkpoint, at most.
const BUFFER_KEPT: usize = 64 * 1024;

/// Version of the format, in the header of each segment.
const FORMAT: u64 = 1;

/// Identity of a ledger.
pub(crate) type LedgerId = [u8; 16];

/// What a volume holds, as read back.
pub(crate) struct Scan {
    pub(crate) state: State,
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 16],
    /// Sequence and hash of each record of the chain and of the one that it goes on from, for the witness: a process may end
    /// after it wrote a checkpoint and before it told the witness.
    pub(crate) chain: Vec<(u64, [u8; 16])>,
    /// The records themselves, oldest first.
    pub(crate) records: Vec<Record>,
}

/// An open volume.
pub(crate) struct Volume {
    disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    ledger: LedgerId,
    number: u64,
    segment_records: usize,
    active: Arc<dyn File>,
    capacity: usize,
    used: usize,
    generation: u64,
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 16],
    /// Encoded, not yet written: goes out with the next write.
    buffer: Vec<u8>,
    /// Everything up to here was handed to the kernel.
    pub(crate) written: u64,
    /// Everything up to here is on the medium.
    pub(crate) durable: u64,
}

pub(crate) fn segment_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("segment-{index}"))
}

fn damaged(path: &Path, what: impl Into<String>) -> LedgerError {
    LedgerError::at(path, LedgerErrorKind::Damaged(what.into()))
}

fn hash_of(slot: &[u8]) -> [u8; 16] {
    half(&Sha256::digest(slot).into())
}

/// One segment file, read back.
#[derive(Default)]
struct Segment {
    /// Too short for a single record.
    empty: bool,
    generation: u64,
    /// Sequence and hash of the record that the chain goes on from.
    before: Option<(u64, [u8; 16])>,
    /// Records of the chain, from the header on.
    chain: Vec<(Record, u64, [u8; 16])>,
    complete: bool,
    /// Highest sequence that any record in the file calls durable.
    claims: u64,
}

/// Damage that a scan looks past, to find out what kind it is.
#[derive(Default)]
pub(crate) struct Tolerated {
    /// Segment and slot of what is neither whole nor empty.
    pub(crate) damaged: Vec<(u64, usize)>,
    /// Segment, its generation, the length of the chain in it, and the hash of the last record.
    pub(crate) chains: Vec<(u64, u64, usize, Option<[u8; 16]>)>,
    /// Highest sequence of any whole record, and the highest that any calls durable.
    pub(crate) highest: u64,
    pub(crate) claims: u64,
}

/// Records read at once.
const READ_RECORDS: usize = 32;

fn read_segment(
    disk: &dyn Disk,
    dir: &Path,
    index: u64,
    owner: (LedgerId, u64),
    mut tolerated: Option<&mut Tolerated>,
) -> Result<Segment, LedgerError> {
    let path = &segment_path(dir, index);
    let io = |error| LedgerError::at(path, LedgerErrorKind::Io(error));
    let file = disk.open(path, Open::Read).map_err(io)?;
    let len = file.len().map_err(io)?;
    let len = usize::try_from(len).ok().filter(|len| *len <= SEGMENT_RECORDS_MAX * RECORD_LEN);
    let len = len.ok_or_else(|| damaged(path, "longer than a segment can be"))?;
    if len % RECORD_LEN != 0 {
        return Err(damaged(path, format!("its length {len} is not a multiple of {RECORD_LEN}")));
    }
    let mut segment = Segment { empty: len == 0, ..Segment::default() };
    let mut broken = false;
    let mut leftovers = Vec::new();
    // Piece by piece: segments of many keys have megabytes.
    let mut piece = [0; READ_RECORDS * RECORD_LEN];
    for at in 0..len / RECORD_LEN {
        let within = at % READ_RECORDS * RECORD_LEN;
        if within == 0 {
            let left = (len - at * RECORD_LEN).min(piece.len());
            file.read((at * RECORD_LEN) as u64, piece.get_mut(..left).unwrap_or_default()).map_err(io)?;
        }
        let slot = piece.get(within..within + RECORD_LEN).unwrap_or_default();
        let (record, place) = match decode(slot) {
            Slot::Zero => {
                broken = true;
                continue;
            }
            Slot::Damaged if let Some(tolerated) = tolerated.as_mut() => {
                tolerated.damaged.push((index, at));
                broken = true;
                continue;
            }
            Slot::Damaged => return Err(damaged(path, format!("record {at} is neither whole nor empty"))),
            Slot::Record(record, place) => (*record, place),
        };
        segment.claims = segment.claims.max(place.durable);
        if let Some(tolerated) = tolerated.as_mut() {
            tolerated.highest = tolerated.highest.max(place.sequence);
            tolerated.claims = tolerated.claims.max(place.durable);
        }
        let follows = match segment.chain.last() {
            None => at == 0 && is_header(path, &record, len, index, owner)?,
            Some((_, sequence, hash)) => place.sequence == sequence + 1 && place.previous == *hash,
        };
        broken |= !follows;
        if !broken {
            segment.complete |= record.kind == Kind::Checkpoint;
            if at == 0 {
                segment.generation = record.mark.0[1];
                segment.before = place.sequence.checked_sub(1).map(|sequence| (sequence, place.previous));
            }
            segment.chain.push((record, place.sequence, hash_of(slot)));
        } else if !segment.chain.is_empty() {
            leftovers.push((place.sequence, hash_of(slot)));
        }
    }
    let first = segment.chain.first().map_or(0, |(_, sequence, _)| *sequence);
    for (sequence, hash) in leftovers {
        let known = sequence.checked_sub(first).and_then(|index| segment.chain.get(usize::try_from(index).ok()?));
        if known.is_some_and(|(_, _, known)| *known == hash) {
            return Err(damaged(path, format!("record {sequence} is there twice")));
        }
    }
    if let Some(tolerated) = tolerated {
        let last = segment.chain.last().map(|(_, _, hash)| *hash);
        tolerated.chains.push((index, segment.generation, segment.chain.len(), last));
    }
    Ok(segment)
}

fn is_header(
    path: &Path,
    record: &Record,
    len: usize,
    index: u64,
    (ledger, number): (LedgerId, u64),
) -> Result<bool, LedgerError> {
    if record.kind != Kind::Segment {
        return Err(damaged(path, "it does not start with a header"));
    }
    let [format, generation, capacity] = record.mark.0;
    if format != FORMAT {
        let version = u32::try_from(format).unwrap_or(u32::MAX);
        return Err(LedgerError::at(path, LedgerErrorKind::Version(version)));
    }
    if record.subject != ledger || record.version != number {
        return Err(damaged(path, "a segment of another ledger or volume"));
    }
    if generation % SEGMENTS != index || generation > COUNT_MAX {
        return Err(damaged(path, "a segment in the place of another"));
    }
    let have = len / RECORD_LEN;
    if (have as u64) < capacity {
        return Err(damaged(path, format!("it has room for {have} records and was made for {capacity}")));
    }
    Ok(true)
}

/// Reads a volume back. None: nothing was ever acknowledged in it.
pub(crate) fn scan(disk: &dyn Disk, dir: &Path, ledger: LedgerId, number: u64) -> Result<Option<Scan>, LedgerError> {
    read(disk, dir, (ledger, number), None)
}

/// The same, and looks past damaged slots. For finding out what they are; not for signing.
pub(crate) fn scan_tolerantly(
    disk: &dyn Disk,
    dir: &Path,
    ledger: LedgerId,
    number: u64,
    tolerated: &mut Tolerated,
) -> Result<Option<Scan>, LedgerError> {
    read(disk, dir, (ledger, number), Some(tolerated))
}

fn read(
    disk: &dyn Disk,
    dir: &Path,
    owner: (LedgerId, u64),
    mut tolerated: Option<&mut Tolerated>,
) -> Result<Option<Scan>, LedgerError> {
    let names = disk.list(dir).map_err(|error| LedgerError::at(dir, error))?;
    let mut best: Option<Segment> = None;
    let (mut claims, mut has_records, mut absent) = (0, false, None);
    for index in making_order() {
        let path = segment_path(dir, index);
        let segment = match names.contains(&format!("segment-{index}")) {
            true => read_segment(disk, dir, index, owner, tolerated.as_deref_mut())?,
            false => Segment { empty: true, ..Segment::default() },
        };
        match &absent {
            None if segment.empty => absent = Some(path),
            Some(absent) if !segment.empty => return Err(damaged(absent, "missing or empty")),
            _ => {}
        }
        claims = claims.max(segment.claims);
        has_records |= !segment.chain.is_empty();
        let better = best.as_ref().is_none_or(|best| segment.generation > best.generation);
        if segment.complete && better {
            best = Some(segment);
        }
    }
    if let (Some(absent), true) = (absent, has_records) {
        return Err(damaged(&absent, "missing or empty"));
    }
    let Some(best) = best else {
        return match claims {
            0 => Ok(None),
            _ => Err(damaged(dir, format!("records up to {claims} were acknowledged, and no checkpoint is left"))),
        };
    };
    let mut scan = Scan {
        state: State::default(),
        generation: best.generation,
        sequence: 0,
        hash: [0; 16],
        chain: best.before.into_iter().collect(),
        records: Vec::with_capacity(best.chain.len()),
    };
    for (record, sequence, hash) in best.chain {
        if !scan.state.apply(&record) {
            return Err(damaged(dir, format!("record {sequence} refers to nothing")));
        }
        (scan.sequence, scan.hash) = (sequence, hash);
        scan.chain.push((sequence, hash));
        scan.records.push(record);
    }
    if claims > scan.sequence {
        let end = scan.sequence;
        return Err(damaged(dir, format!("records up to {claims} were acknowledged, the chain ends at {end}")));
    }
    Ok(Some(scan))
}

/// Indices in the order in which segments are made and used: generation 1 comes first.
fn making_order() -> impl Iterator<Item = u64> {
    (1..=SEGMENTS).map(|generation| generation % SEGMENTS)
}

impl Volume {
    /// Goes on behind `scan`, or begins, with a new segment that holds `state`.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        (dir, ledger, number): (PathBuf, LedgerId, u64),
        segment_records: usize,
        scan: Option<&Scan>,
        state: &State,
        time: u64,
    ) -> Result<Self, LedgerError> {
        // What was read may have come from the kernel's memory; it is on the medium, under its name, before anything is
        // built on it: a later segment whose name outlived that of an earlier one would be taken for damage.
        for index in making_order() {
            let (file, _) = open_segment(disk.as_ref(), &dir, index, segment_records)?;
            file.sync().map_err(|error| LedgerError::at(&segment_path(&dir, index), error))?;
            disk.sync_dir(&dir).map_err(|error| LedgerError::at(&dir, error))?;
        }
        let (generation, sequence, hash) = scan.map_or((0, 0, [0; 16]), |s| (s.generation, s.sequence, s.hash));
        let (file, _) = open_segment(disk.as_ref(), &dir, generation % SEGMENTS, segment_records)?;
        let mut volume = Self {
            disk,
            dir,
            ledger,
            number,
            segment_records,
            active: Arc::from(file),
            capacity: 0,
            used: 0,
            generation,
            sequence,
            hash,
            buffer: Vec::new(),
            written: sequence,
            durable: sequence,
        };
        volume.rotate(state, time)?;
        volume.level()?;
        Ok(volume)
    }

    /// Whether `records` more fit into the active segment.
    pub(crate) fn has_room(&self, records: usize) -> bool {
        self.used + records <= self.capacity
    }

    /// Begins the next segment with a checkpoint of `state`, and returns once it is durable.
    pub(crate) fn rotate(&mut self, state: &State, time: u64) -> Result<(), LedgerError> {
        // Everything buffered is part of `state`; written before, the old segment stays whole until the new one is.
        self.write().map_err(|error| LedgerError::at(&self.dir, error))?;
        // Made twice rather than kept: of many keys they are megabytes.
        let checkpoint = || state.subjects.values().flat_map(|subject| subject.checkpoint());
        let roomy = self.segment_records * state.subjects.len().div_ceil(SEGMENT_SUBJECTS).max(1);
        let wanted = ((checkpoint().count() + 1) * 4).next_power_of_two().max(roomy);
        if wanted > SEGMENT_RECORDS_MAX {
            let text = format!("{} keys are more than one volume can hold", state.subjects.len());
            return Err(LedgerError::at(&self.dir, LedgerErrorKind::Limit(text)));
        }
        let generation = self.generation + 1;
        let index = generation % SEGMENTS;
        let (file, capacity) = open_segment(self.disk.as_ref(), &self.dir, index, wanted)?;
        let header = Record {
            mark: Mark([FORMAT, generation, capacity as u64]),
            subject: self.ledger,
            version: self.number,
            ..Record::new(Kind::Segment)
        };
        (self.active, self.capacity, self.used, self.generation) = (Arc::from(file), capacity, 0, generation);
        let end = Record::new(Kind::Checkpoint);
        for record in std::iter::once(header).chain(checkpoint()).chain(std::iter::once(end)) {
            self.put(&Record { time, ..record });
        }
        let path = segment_path(&self.dir, index);
        let write = self.write().and_then(|()| self.active.sync());
        write.map_err(|error| LedgerError::at(&path, error))?;
        self.buffer.shrink_to(BUFFER_KEPT);
        self.durable = self.sequence;
        Ok(())
    }

    /// Makes every other segment as long as the active one, so that no later rotation has to. Nothing is lost with what they
    /// hold: the active one starts with a complete checkpoint.
    pub(crate) fn level(&self) -> Result<(), LedgerError> {
        for index in making_order().filter(|index| *index != self.generation % SEGMENTS) {
            open_segment(self.disk.as_ref(), &self.dir, index, self.capacity)?;
        }
        Ok(())
    }

    /// Whether three quarters of the active segment are used.
    pub(crate) fn is_filling(&self) -> bool {
        self.used > self.capacity / 4 * 3
    }

    /// Encodes a record behind the last one. It goes out with the next [`Self::write`].
    pub(crate) fn put(&mut self, record: &Record) {
        let start = self.buffer.len();
        let place = Place { sequence: self.sequence + 1, durable: self.durable, previous: self.hash };
        record.encode(&place, &mut self.buffer);
        self.hash = hash_of(self.buffer.get(start..).unwrap_or_default());
        self.sequence += 1;
        self.used += 1;
    }

    /// Hands everything encoded to the kernel; not yet to the medium.
    pub(crate) fn write(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        // An error leaves the buffer as it is; the caller gives the volume up.
        let first = self.used - self.buffer.len() / RECORD_LEN;
        self.active.write((first * RECORD_LEN) as u64, &self.buffer)?;
        self.buffer.clear();
        self.written = self.sequence;
        Ok(())
    }

    /// The file to sync for what was written.
    pub(crate) fn file(&self) -> Arc<dyn File> {
        Arc::clone(&self.active)
    }
}

/// Opens a segment file with at least `wanted` records, zero-filled where it is new or grows.
fn open_segment(disk: &dyn Disk, dir: &Path, index: u64, wanted: usize) -> Result<(Box<dyn File>, usize), LedgerError> {
    let path = segment_path(dir, index);
    let io = |error| LedgerError::at(&path, LedgerErrorKind::Io(error));
    let file = match disk.open(&path, Open::Write) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((
                create_filled(disk, &path, |file| write_zeros(file, wanted * RECORD_LEN)).map_err(io)?,
                wanted,
            ));
        }
        Err(error) => return Err(io(error)),
    };
    let have = usize::try_from(file.len().map_err(io)?).unwrap_or(usize::MAX) / RECORD_LEN;
    if have >= wanted {
        return Ok((file, have));
    }
    // Its header speaks of the old length, and nothing in it is needed: an emptied segment is no damage.
    write_zeros(file.as_ref(), wanted * RECORD_LEN).map_err(io)?;
    file.sync().map_err(io)?;
    Ok((file, wanted))
}
