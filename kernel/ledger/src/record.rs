//! The 512-byte record, the unit in which a disk tears.
//!
//! ```text
//! offset  bytes
//!      0      4  magic "SML1"
//!      4      1  kind
//!      5      1  flag
//!      6      2  lane code
//!      8      8  sequence, rises by one from record to record
//!     16      8  durable: every record up to this sequence was on the medium when this one was written
//!     24      8  time, seconds since 1970, for people
//!     32     16  subject id
//!     48     24  mark, 3 × u64
//!     72     32  digest
//!    104     32  content digest
//!    136      8  lane version
//!    144      2  length of the payload
//!    146      2  length of the signature, which follows the payload
//!    148    344  payload, signature, zeros
//!    492     16  first half of the SHA-256 of the previous record
//!    508      4  CRC-32C of bytes 0..508
//! ```
//! Integers are little-endian. A slot that is neither a record nor all zeros is damage.

use semel_guard::{Algorithm, ChainId, Digest, Mark, PublicKey, Signature, Subject};
use sha2::{Digest as _, Sha256};

/// Bytes of a record.
pub const RECORD_LEN: usize = 512;

/// Bytes for payload and signature together.
pub(crate) const ROOM: usize = 344;

const MAGIC: &[u8; 4] = b"SML1";

/// Highest sequence, version or generation. They rise by one per record, so none gets there, and one more never overflows.
pub(crate) const COUNT_MAX: u64 = u64::MAX >> 1;

/// Name of a (public key, chain) in records and lock files.
pub type SubjectId = [u8; 16];

/// The name under which a (public key, chain) is kept: half a SHA-256 over both.
pub fn subject_id(subject: &Subject) -> SubjectId {
    let mut hash = Sha256::new();
    hash.update([subject.key.algorithm() as u8]);
    hash.update(subject.key.as_bytes());
    hash.update(subject.chain.as_str());
    half(&hash.finalize().into())
}

/// First half of a hash.
pub(crate) fn half(hash: &[u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    out
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First of a segment; mark: format version, generation, volume.
    Segment = 1,
    /// Introduces a subject; payload: algorithm, key, chain id.
    Subject = 2,
    /// Floor of a lane.
    Floor = 3,
    /// An admission; payload: the bytes that may be signed.
    Entry = 4,
    /// The signature of an admission.
    Signature = 5,
    /// The subject is dead (flag 1) or brought back (flag 0).
    Tombstone = 6,
    /// The checkpoint at the start of a segment is complete.
    Checkpoint = 7,
    /// Positions below the mark may be admitted without waiting for the disk.
    Reserve = 8,
    /// Something was refused; flag: index of the reason.
    Refusal = 9,
    /// The process ended in order; nothing is outstanding.
    Close = 10,
    /// Of a subject: its hold with this number (version) began for this cause (flag), or was lifted (flag 0). Of a lane: this hold
    /// watches up to the mark (flag: cause), or was passed (flag 0).
    Hold = 11,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Segment,
        Self::Subject,
        Self::Floor,
        Self::Entry,
        Self::Signature,
        Self::Tombstone,
        Self::Checkpoint,
        Self::Reserve,
        Self::Refusal,
        Self::Close,
        Self::Hold,
    ];
}

/// One record, without its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: Kind,
    /// Its one bit or small number.
    pub flag: u8,
    /// Lane code.
    pub lane: u16,
    /// Seconds since 1970.
    pub time: u64,
    /// Whose.
    pub subject: SubjectId,
    /// Where.
    pub mark: Mark,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Digest of the content.
    pub content: Digest,
    /// Lane version after it.
    pub version: u64,
    /// Bytes.
    pub payload: Vec<u8>,
    /// Signature.
    pub signature: Option<Signature>,
}

impl Record {
    /// An empty record of a kind.
    pub(crate) fn new(kind: Kind) -> Self {
        let zero = Digest([0; 32]);
        Self {
            kind,
            flag: 0,
            lane: 0,
            time: 0,
            subject: [0; 16],
            mark: Mark::default(),
            digest: zero,
            content: zero,
            version: 0,
            payload: Vec::new(),
            signature: None,
        }
    }

    /// Introduces a subject.
    pub(crate) fn of_subject(subject: &Subject) -> Self {
        let key = subject.key.as_bytes();
        let mut payload = vec![subject.key.algorithm() as u8];
        payload.extend_from_slice(key);
        payload.extend_from_slice(subject.chain.as_str().as_bytes());
        Self { subject: subject_id(subject), payload, ..Self::new(Kind::Subject) }
    }

    /// The subject that a [`Kind::Subject`] record introduces.
    pub fn to_subject(&self) -> Option<Subject> {
        let (&code, rest) = self.payload.split_first()?;
        let algorithm = Algorithm::from_code(code)?;
        let (key, chain) = rest.split_at_checked(algorithm.key_len())?;
        let key = PublicKey::new(algorithm, key).ok()?;
        let subject = Subject { key, chain: ChainId::new(std::str::from_utf8(chain).ok()?).ok()? };
        (subject_id(&subject) == self.subject).then_some(subject)
    }

    /// Appends the record's 512 bytes to `out`. Payload and signature must fit [`ROOM`]; what does not is cut, so
    /// callers check before.
    pub(crate) fn encode(&self, place: &Place, out: &mut Vec<u8>) {
        let start = out.len();
        let signature = self.signature.as_ref().map(Signature::as_bytes).unwrap_or_default();
        out.extend_from_slice(MAGIC);
        out.push(self.kind as u8);
        out.push(self.flag);
        out.extend_from_slice(&self.lane.to_le_bytes());
        for number in [place.sequence, place.durable, self.time] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.subject);
        for number in self.mark.0 {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.digest.0);
        out.extend_from_slice(&self.content.0);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.payload.len() as u16).to_le_bytes());
        out.extend_from_slice(&(signature.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(signature);
        out.resize(start + RECORD_LEN - 20, 0);
        out.extend_from_slice(&place.previous);
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }
}

/// A record's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
    pub(crate) previous: [u8; 16],
}

/// What a slot holds.
#[derive(Debug)]
pub(crate) enum Slot {
    Zero,
    Record(Box<Record>, Place),
    Damaged,
}

/// Reads a slot of [`RECORD_LEN`] bytes.
pub(crate) fn decode(slot: &[u8]) -> Slot {
    if slot.iter().all(|byte| *byte == 0) {
        return Slot::Zero;
    }
    decode_record(slot).map_or(Slot::Damaged, |(record, place)| Slot::Record(Box::new(record), place))
}

fn decode_record(slot: &[u8]) -> Option<(Record, Place)> {
    let (body, crc) = slot.split_at_checked(RECORD_LEN - 4)?;
    if slot.len() != RECORD_LEN || !slot.starts_with(MAGIC) || crc32c::crc32c(body).to_le_bytes() != *crc {
        return None;
    }
    let mut cursor = Cursor(body.get(4..)?);
    let kind_code = cursor.take::<1>()?[0];
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == kind_code)?;
    let flag = cursor.take::<1>()?[0];
    let lane = u16::from_le_bytes(cursor.take()?);
    let [sequence, durable, time] = [cursor.u64()?, cursor.u64()?, cursor.u64()?];
    let subject = cursor.take()?;
    let mark = Mark([cursor.u64()?, cursor.u64()?, cursor.u64()?]);
    let digest = Digest(cursor.take()?);
    let content = Digest(cursor.take()?);
    let version = cursor.u64()?;
    if sequence > COUNT_MAX || version > COUNT_MAX {
        return None;
    }
    let payload_len = usize::from(u16::from_le_bytes(cursor.take()?));
    let signature_len = usize::from(u16::from_le_bytes(cursor.take()?));
    let room = cursor.0.get(..ROOM)?;
    let payload = room.get(..payload_len)?.to_vec();
    let signature = match room.get(payload_len..payload_len.checked_add(signature_len)?)? {
        [] => None,
        bytes => Some(Signature::new(bytes).ok()?),
    };
    let previous = Cursor(cursor.0.get(ROOM..)?).take()?;
    let record = Record { kind, flag, lane, time, subject, mark, digest, content, version, payload, signature };
    Some((record, Place { sequence, durable, previous }))
}

/// Sequence and durable of a slot of which only the beginning was written, in the place behind the record with the hash `previous`.
/// None: it does not begin as a record, or it is one whose end was changed later.
pub(crate) fn beginning(slot: &[u8], previous: &[u8; 16]) -> Option<(u64, u64)> {
    let (body, end) = slot.split_at_checked(RECORD_LEN - 20)?;
    let crc = crc32c::crc32c_append(crc32c::crc32c(body), previous).to_le_bytes();
    if !body.starts_with(MAGIC) || end.ends_with(&crc) {
        return None;
    }
    let mut cursor = Cursor(body.get(8..)?);
    Some((cursor.u64()?, cursor.u64()?))
}

/// Reads fixed-size fields from the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
