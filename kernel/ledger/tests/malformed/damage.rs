//! What can be wrong with the files of a ledger, and what opening them must come to.

use super::scene::Dice;
use super::simdisk::Files;
use std::path::PathBuf;

pub(crate) const RECORD_LEN: usize = 512;
const SEGMENTS: usize = 4;

/// Where fields of a record lie.
const KIND: usize = 4;
const SEQUENCE: usize = 8;
const FORMAT: usize = 48;
const GENERATION: usize = 56;
const DURABLE: usize = 16;
const CRC: usize = 508;

/// What opening a damaged ledger must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It does not open, with this code.
    Refused(&'static str),
    /// It opens and has lost nothing.
    Whole,
    /// It does not open, or it has lost nothing but what no record that is left calls durable.
    Explained,
    /// Whatever it comes to, the process goes on: somebody who can compute checksums made it.
    Survived,
}

const DAMAGED: Expected = Expected::Refused("LEDGER-0003");

/// What damage is made of.
pub(crate) struct Stock {
    /// Another ledger with the same history.
    pub(crate) foreign: Files,
    /// The files at earlier moments.
    pub(crate) earlier: Vec<Files>,
}

pub(crate) type Damage = fn(&mut Files, &Stock, &mut Dice) -> Expected;

pub(crate) const DAMAGES: [(&str, Damage); 24] = [
    ("bits flipped", flip),
    ("records zeroed", zero),
    ("the tail zeroed", tail),
    ("a record over another", duplicate),
    ("an earlier record over the last", repeat_over_the_last),
    ("two records swapped", swap_records),
    ("a record of another volume", record_of_another_volume),
    ("a record of another ledger", record_of_another_ledger),
    ("garbage in a slot", garbage),
    ("cut at any byte", cut),
    ("cut at a record", cut_at_a_record),
    ("emptied", empty),
    ("removed", remove),
    ("extended by zeros", extend_by_zeros),
    ("extended by garbage", extend_by_garbage),
    ("halves swapped", swap_halves),
    ("a segment in the place of another", misplace_segment),
    ("a segment of another volume", segment_of_another_volume),
    ("a segment of another ledger", segment_of_another_ledger),
    ("a segment of an earlier moment", stale_segment),
    ("another version of the format", version),
    ("a field forged", forge),
    ("a header forged", forge_header),
    ("the host file", host),
];

pub(crate) fn segment_path(volume: usize, index: usize) -> PathBuf {
    format!("/var/semel/volume-{volume}/segment-{index}").into()
}

pub(crate) fn number_at(record: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(record[offset..offset + 8].try_into().unwrap())
}

pub(crate) fn is_zero(slot: &[u8]) -> bool {
    *slot == [0; RECORD_LEN]
}

/// Whether the slot holds a record with the right checksum.
pub(crate) fn is_whole(slot: &[u8]) -> bool {
    slot.starts_with(b"SML1") && crc32c::crc32c(&slot[..CRC]).to_le_bytes() == slot[CRC..]
}

/// Up to where a record says that everything is durable.
pub(crate) fn claim(record: &[u8]) -> u64 {
    number_at(record, DURABLE)
}

fn set_crc(record: &mut [u8]) {
    let crc = crc32c::crc32c(&record[..CRC]);
    record[CRC..].copy_from_slice(&crc.to_le_bytes());
}

/// A segment that still holds a slot: others have nothing left that could be damaged.
fn has_slots(files: &Files, volume: usize, index: usize) -> bool {
    files.get(&segment_path(volume, index)).is_some_and(|bytes| bytes.len() >= RECORD_LEN)
}

/// The segment that the volume was writing.
fn active(files: &Files, volume: usize) -> usize {
    let generation = |index: &usize| number_at(&files[&segment_path(volume, *index)], GENERATION);
    (0..SEGMENTS).filter(|index| has_slots(files, volume, *index)).max_by_key(generation).unwrap()
}

/// A volume and a segment of it; more often than not the one that was being written.
fn pick(files: &Files, dice: &mut Dice) -> (usize, usize) {
    loop {
        let volume = dice.below(2);
        let index = if dice.below(3) > 0 { active(files, volume) } else { dice.below(SEGMENTS) };
        if has_slots(files, volume, index) {
            return (volume, index);
        }
    }
}

fn bytes(files: &mut Files, place: (usize, usize)) -> &mut Vec<u8> {
    files.entry(segment_path(place.0, place.1)).or_default()
}

/// Number of a slot in these bytes; more often than not one that was written.
fn slot(bytes: &[u8], dice: &mut Dice) -> usize {
    let written =
        bytes.chunks(RECORD_LEN).rposition(|slot| slot.iter().any(|byte| *byte != 0)).map_or(0, |last| last + 1);
    let slots = bytes.len() / RECORD_LEN;
    let is_written = written > 0 && dice.below(4) > 0;
    dice.below(if is_written { written.min(slots) } else { slots })
}

fn range(slot: usize) -> std::ops::Range<usize> {
    slot * RECORD_LEN..(slot + 1) * RECORD_LEN
}

fn flip(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let start = slot(bytes, dice) * RECORD_LEN;
    // Different bits of one record, so that none is flipped back.
    let first = dice.below(RECORD_LEN * 8);
    for bit in (first..RECORD_LEN * 8).step_by(1 + dice.below(700)).take(1 + dice.below(8)) {
        bytes[start + bit / 8] ^= 1 << (bit % 8);
    }
    DAMAGED
}

fn zero(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let first = slot(bytes, dice);
    let end = ((first + 1 + dice.below(4)) * RECORD_LEN).min(bytes.len());
    bytes[first * RECORD_LEN..end].fill(0);
    Expected::Explained
}

fn tail(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let volume = dice.below(2);
    let place = (volume, active(files, volume));
    let bytes = bytes(files, place);
    let first = slot(bytes, dice);
    bytes[first * RECORD_LEN..].fill(0);
    Expected::Explained
}

/// Copies a slot of one file over one of another.
fn copy(files: &mut Files, from: &[u8], dice: &mut Dice) -> Expected {
    let record = from[range(slot(from, dice))].to_vec();
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let to = slot(bytes, dice);
    bytes[range(to)].copy_from_slice(&record);
    Expected::Explained
}

fn duplicate(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let from = pick(files, dice);
    let from = bytes(files, from).clone();
    copy(files, &from, dice)
}

/// A write that went to the wrong place hits the one record of which nothing else says that it was there.
fn repeat_over_the_last(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let volume = dice.below(2);
    let place = (volume, active(files, volume));
    let bytes = bytes(files, place);
    let follows = |at: &usize| {
        let next = bytes.get(range(at + 1)).filter(|next| is_whole(next));
        next.is_none_or(|next| number_at(next, SEQUENCE).wrapping_sub(number_at(&bytes[range(*at)], SEQUENCE)) != 1)
    };
    let Some(last) = (0..bytes.len() / RECORD_LEN).find(follows).filter(|last| *last > 1) else {
        return Expected::Explained;
    };
    let earlier = bytes[range(1 + dice.below(last - 1))].to_vec();
    bytes[range(last)].copy_from_slice(&earlier);
    DAMAGED
}

fn swap_records(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let (a, b) = (slot(bytes, dice), slot(bytes, dice));
    let (first, second) = (bytes[range(a)].to_vec(), bytes[range(b)].to_vec());
    bytes[range(a)].copy_from_slice(&second);
    bytes[range(b)].copy_from_slice(&first);
    Expected::Explained
}

fn record_of_another_volume(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let from = dice.below(2);
    let from = bytes(files, (from, active(files, from))).clone();
    copy(files, &from, dice)
}

fn record_of_another_ledger(files: &mut Files, stock: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    copy(files, &stock.foreign[&segment_path(place.0, place.1)], dice)
}

fn garbage(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let slot = slot(bytes, dice);
    bytes[range(slot)].fill_with(|| dice.roll() as u8);
    DAMAGED
}

fn cut(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    bytes.truncate(dice.below(bytes.len()));
    // Of a segment that was never used nothing is missing, as long as it has whole slots.
    let is_unused = bytes.iter().all(|byte| *byte == 0) && !bytes.is_empty() && bytes.len().is_multiple_of(RECORD_LEN);
    if is_unused { Expected::Explained } else { DAMAGED }
}

fn cut_at_a_record(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    bytes.truncate(dice.below(bytes.len() / RECORD_LEN) * RECORD_LEN);
    let is_unused = bytes.iter().all(|byte| *byte == 0) && !bytes.is_empty();
    if is_unused { Expected::Whole } else { DAMAGED }
}

fn empty(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    bytes(files, place).clear();
    DAMAGED
}

fn remove(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    files.remove(&segment_path(place.0, place.1));
    DAMAGED
}

fn extend_by_zeros(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let more = 1 + dice.below(8 * RECORD_LEN);
    let more = if dice.below(2) == 0 { more } else { more.next_multiple_of(RECORD_LEN) };
    bytes.resize(bytes.len() + more, 0);
    if more.is_multiple_of(RECORD_LEN) { Expected::Whole } else { DAMAGED }
}

fn extend_by_garbage(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let more = 1 + dice.below(4 * RECORD_LEN);
    bytes.extend((0..more).map(|_| 1 + dice.below(255) as u8));
    DAMAGED
}

fn swap_halves(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let half = bytes.len() / 2 / RECORD_LEN * RECORD_LEN;
    let is_unused = bytes.iter().all(|byte| *byte == 0);
    bytes.rotate_left(half);
    if is_unused { Expected::Whole } else { DAMAGED }
}

fn misplace_segment(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let (volume, to) = pick(files, dice);
    let from = (to + 1 + dice.below(SEGMENTS - 1)) % SEGMENTS;
    let moved = bytes(files, (volume, from)).clone();
    let is_unused = moved.iter().all(|byte| *byte == 0);
    let old = std::mem::replace(bytes(files, (volume, to)), moved);
    if is_unused && old.iter().all(|byte| *byte == 0) {
        return Expected::Whole;
    }
    let is_swapped = dice.below(2) == 0;
    if is_swapped {
        *bytes(files, (volume, from)) = old;
    }
    if is_unused && !is_swapped { Expected::Explained } else { DAMAGED }
}

fn segment_of_another_volume(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let (volume, index) = pick(files, dice);
    let foreign = bytes(files, (1 - volume, index)).clone();
    let is_unused = foreign.iter().all(|byte| *byte == 0);
    *bytes(files, (volume, index)) = foreign;
    if is_unused { Expected::Explained } else { DAMAGED }
}

fn segment_of_another_ledger(files: &mut Files, stock: &Stock, dice: &mut Dice) -> Expected {
    let path = pick(files, dice);
    let path = segment_path(path.0, path.1);
    let foreign = stock.foreign[&path].clone();
    let is_unused = foreign.iter().all(|byte| *byte == 0);
    files.insert(path, foreign);
    if is_unused { Expected::Explained } else { DAMAGED }
}

fn stale_segment(files: &mut Files, stock: &Stock, dice: &mut Dice) -> Expected {
    let (volume, index) = pick(files, dice);
    let path = segment_path(volume, index);
    let then = &stock.earlier[dice.below(stock.earlier.len())];
    files.insert(path.clone(), then[&path].clone());
    Expected::Explained
}

fn version(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    if is_zero(&bytes[..RECORD_LEN]) {
        return Expected::Whole;
    }
    let other = [0, 2, 3, u64::from(u32::MAX) + 1, u64::MAX][dice.below(5)];
    bytes[FORMAT..FORMAT + 8].copy_from_slice(&other.to_le_bytes());
    set_crc(&mut bytes[..RECORD_LEN]);
    Expected::Refused("LEDGER-0008")
}

/// Numbers that break arithmetic, if anything does.
fn hostile(dice: &mut Dice) -> u64 {
    [0, 1, u64::from(u32::MAX), u64::MAX / 2, u64::MAX - 1, u64::MAX, dice.roll()][dice.below(7)]
}

fn forge(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let slot = slot(bytes, dice);
    let record = &mut bytes[range(slot)];
    if !is_whole(record) {
        return Expected::Whole;
    }
    for _ in 0..1 + dice.below(2) {
        let number = hostile(dice).to_le_bytes();
        match dice.below(5) {
            0 => record[KIND] = dice.below(13) as u8,
            // Sequence, durable, time, subject, mark, version.
            1 | 2 => {
                let offset = [8, 16, 24, 32, 40, 48, 56, 64, 136][dice.below(9)];
                record[offset..offset + 8].copy_from_slice(&number);
            }
            // Lane, and the lengths of payload and signature.
            3 => {
                let offset = [6, 144, 146][dice.below(3)];
                record[offset..offset + 2].copy_from_slice(&number[..2]);
            }
            _ => record[4 + dice.below(CRC - 4)] = number[0],
        }
    }
    set_crc(record);
    Expected::Survived
}

fn forge_header(files: &mut Files, _: &Stock, dice: &mut Dice) -> Expected {
    let place = pick(files, dice);
    let bytes = bytes(files, place);
    let header = &mut bytes[..RECORD_LEN];
    if !is_whole(header) {
        return Expected::Whole;
    }
    // Sequence, durable, subject, generation, capacity, version.
    let offset = [8, 16, 32, 56, 64, 136][dice.below(6)];
    header[offset..offset + 8].copy_from_slice(&hostile(dice).to_le_bytes());
    set_crc(header);
    // What follows such a header belongs to nothing; without it, the number itself is what everything goes on from.
    if dice.below(2) == 0 {
        bytes[RECORD_LEN..].fill(0);
    }
    Expected::Survived
}

fn host(files: &mut Files, stock: &Stock, dice: &mut Dice) -> Expected {
    let path = PathBuf::from("/var/semel/host");
    let text = files.get(&path).map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let (changed, expected) = match dice.below(8) {
        0 => (Some(Vec::new()), DAMAGED),
        1 => (Some((0..dice.below(600)).map(|_| dice.roll() as u8).collect()), DAMAGED),
        2 => (None, DAMAGED),
        3 => (Some(stock.foreign[&path].clone()), DAMAGED),
        4 => (Some(text.bytes().take(dice.below(text.find("host ").unwrap_or(1))).collect()), DAMAGED),
        5 => {
            let elsewhere: String = text.lines().take(2).map(|line| format!("{line}\n")).collect();
            (Some(format!("{elsewhere}host 0123456789abcdef\n").into_bytes()), Expected::Refused("LEDGER-0004"))
        }
        6 => (Some(text.replace("semel-ledger 1", "semel-ledger 2").into_bytes()), Expected::Refused("LEDGER-0008")),
        _ => (Some(format!("{text}\n{}", "x".repeat(dice.below(2000))).into_bytes()), Expected::Whole),
    };
    match changed {
        Some(bytes) => files.insert(path, bytes),
        None => files.remove(&path),
    };
    expected
}
