//! What is needed of a block, read from its CBOR without building it.
//!
//! A block is `[era, block]`, eras 0 (Byron boundary), 1 (Byron) and 2 to 7 (Shelley to Conway). Hashes are BLAKE2b-256 of the
//! bytes as they are in the block: of the header (for Byron, of `[era, header]`), of the body of each transaction. Nothing
//! else is looked into: content that a later protocol version adds is stepped over. Byron slots are epoch · 21600 + slot, on
//! every network, as pallas has it. The tests compare all of it with pallas on every block at hand.

use crate::core::merkle::Hash;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use pallas_codec::minicbor::data::Type;
use pallas_codec::minicbor::{Decoder, decode};

/// Slots of a Byron epoch.
const BYRON_EPOCH_SLOTS: u64 = 21_600;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedBlock {
    /// Block number.
    pub number: u64,
    /// Slot.
    pub slot: u64,
    /// Hash of its header.
    pub hash: Hash,
    /// Hash of the block before it; none: this is the first.
    pub previous: Option<Hash>,
    /// Whether it is a Byron boundary block, which bears the number of the block before it.
    pub boundary: bool,
    /// Hashes of its transactions, in ascending order.
    pub transactions: Vec<Hash>,
}

impl ParsedBlock {
    /// Reads a block.
    ///
    /// # Errors
    /// The bytes are not one block of a known era.
    pub fn parse(cbor: &[u8]) -> Result<Self, decode::Error> {
        let mut at = Decoder::new(cbor);
        fixed_array(&mut at, 2)?;
        let mut block = match at.u8()? {
            0 => byron(&mut at, true)?,
            1 => byron(&mut at, false)?,
            2..=7 => shelley(&mut at)?,
            era => return Err(decode::Error::message(format!("era {era} is not known"))),
        };
        if at.position() != cbor.len() {
            return Err(decode::Error::message("something follows the block"));
        }
        block.transactions.sort_unstable();
        Ok(block)
    }
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut hasher = Blake2b::<U32>::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

fn fixed_array(at: &mut Decoder<'_>, least: u64) -> Result<(), decode::Error> {
    match at.array()? {
        Some(len) if len >= least => Ok(()),
        _ => Err(decode::Error::message(format!("an array of {least} was expected"))),
    }
}

/// The bytes of the next item.
fn span<'b>(at: &mut Decoder<'b>) -> Result<&'b [u8], decode::Error> {
    let start = at.position();
    at.skip()?;
    at.input().get(start..at.position()).ok_or_else(decode::Error::end_of_input)
}

/// Every item of an array of either length form.
fn each(
    at: &mut Decoder<'_>,
    mut item: impl FnMut(&mut Decoder<'_>) -> Result<(), decode::Error>,
) -> Result<(), decode::Error> {
    match at.array()? {
        Some(len) => (0..len).try_for_each(|_| item(at)),
        None => {
            while at.datatype()? != Type::Break {
                item(at)?;
            }
            at.skip()
        }
    }
}

fn hash_bytes(at: &mut Decoder<'_>) -> Result<Hash, decode::Error> {
    at.bytes()?.try_into().map_err(|_| decode::Error::message("a hash is not 32 bytes long"))
}

/// `[[header body, signature], [body of transaction…], witnesses, metadata, invalid?]`
fn shelley(at: &mut Decoder<'_>) -> Result<ParsedBlock, decode::Error> {
    let Some(parts @ 4..=8) = at.array()? else {
        return Err(decode::Error::message("a block has four or five parts"));
    };
    let header = span(at)?;
    let mut transactions = Vec::new();
    each(at, |at| {
        transactions.push(hash(&[span(at)?]));
        Ok(())
    })?;
    (2..parts).try_for_each(|_| at.skip())?;

    let mut inside = Decoder::new(header);
    fixed_array(&mut inside, 2)?;
    fixed_array(&mut inside, 3)?;
    let number = inside.u64()?;
    let slot = inside.u64()?;
    let previous = match inside.datatype()? {
        Type::Null => None,
        _ => Some(hash_bytes(&mut inside)?),
    };
    Ok(ParsedBlock { number, slot, hash: hash(&[header]), previous, boundary: false, transactions })
}

/// `[header, body, extra]`; header: `[magic, previous, proof, consensus, extra]`.
fn byron(at: &mut Decoder<'_>, boundary: bool) -> Result<ParsedBlock, decode::Error> {
    fixed_array(at, 3)?;
    let header = span(at)?;
    let mut transactions = Vec::new();
    if boundary {
        at.skip()?;
    } else {
        // Body: [[[transaction, witnesses]…], ssc, delegations, updates].
        let mut inside = Decoder::new(span(at)?);
        fixed_array(&mut inside, 1)?;
        each(&mut inside, |at| {
            let mut pair = Decoder::new(span(at)?);
            fixed_array(&mut pair, 2)?;
            transactions.push(hash(&[span(&mut pair)?]));
            Ok(())
        })?;
    }
    at.skip()?;

    let mut inside = Decoder::new(header);
    fixed_array(&mut inside, 5)?;
    inside.skip()?;
    let previous = Some(hash_bytes(&mut inside)?);
    inside.skip()?;
    // Boundary: [epoch, [difficulty]]; else [[epoch, slot], key, [difficulty], signature].
    fixed_array(&mut inside, 2)?;
    let (epoch, slot) = if boundary {
        (inside.u64()?, 0)
    } else {
        fixed_array(&mut inside, 2)?;
        let place = (inside.u64()?, inside.u64()?);
        inside.skip()?;
        place
    };
    let mut number = None;
    each(&mut inside, |at| {
        number.get_or_insert(at.u64()?);
        Ok(())
    })?;
    let slot = epoch
        .checked_mul(BYRON_EPOCH_SLOTS)
        .and_then(|first| first.checked_add(slot))
        .ok_or_else(|| decode::Error::message("the epoch is too great"))?;
    let era: &[u8] = if boundary { &[0x82, 0] } else { &[0x82, 1] };
    Ok(ParsedBlock {
        number: number.unwrap_or_default(),
        slot,
        hash: hash(&[era, header]),
        previous,
        boundary,
        transactions,
    })
}
