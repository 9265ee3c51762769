//! Signed lists on the chain: the inline datum of an output carries `{"markers":[…],"signature":"<hex>"}`.
//!
//! The datum is constructor 0 with byte strings of at most 64 bytes; joined, they are the JSON. Anybody can put an output at the
//! address, so a datum is at most [`DATUM_BYTES_MAX`] long, is read without recursion, and counts only with the right signature.

use pallas_codec::minicbor::data::{Tag, Type};
use pallas_codec::minicbor::{Decoder, Encoder};
use serde::Deserialize;
use serde_json::{Value, json};

/// Longest datum that is looked at, in bytes; a transaction has at most 16 KiB.
pub const DATUM_BYTES_MAX: usize = 64 * 1024;
/// Most markers in a list.
pub const MARKERS_MAX: usize = 256;
/// Bytes of one field of a datum.
const FIELD_BYTES: usize = 64;

/// A list with its signature, as it stands in a datum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Signed<M> {
    /// The list.
    pub markers: Vec<M>,
    /// Ed25519 over the compact JSON of the list, hex of 64 bytes.
    pub signature: Option<String>,
}

impl<M: for<'a> Deserialize<'a>> Signed<M> {
    /// Reads a datum (CBOR). None: it is something else.
    pub fn of_datum(datum: &[u8]) -> Option<Self> {
        let signed: Self = serde_json::from_slice(&payload(datum)?).ok()?;
        (signed.markers.len() <= MARKERS_MAX).then_some(signed)
    }
}

/// The byte strings of a datum, joined. None: it is no constructor with fields, or is too long.
pub fn payload(datum: &[u8]) -> Option<Vec<u8>> {
    if datum.len() > DATUM_BYTES_MAX {
        return None;
    }
    let mut decoder = Decoder::new(datum);
    // The tags of constructors 0 to 6, and of 7 to 127.
    let is_constructor = |tag: Tag| matches!(tag.as_u64(), 121..=127 | 1280..=1400);
    decoder.tag().ok().filter(|tag| is_constructor(*tag))?;
    let mut left = decoder.array().ok()?;
    let mut joined = Vec::new();
    while left != Some(0) {
        match decoder.datatype().ok()? {
            Type::Break if left.is_none() => break,
            Type::Bytes => joined.extend_from_slice(decoder.bytes().ok()?),
            Type::BytesIndef => {
                for chunk in decoder.bytes_iter().ok()? {
                    joined.extend_from_slice(chunk.ok()?);
                }
            }
            _ => decoder.skip().ok()?,
        }
        left = left.map(|left| left.saturating_sub(1));
    }
    Some(joined)
}

/// A datum with this payload, as [`payload`] reads it. None: it is too long.
pub fn datum(payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Encoder::new(Vec::new());
    out.tag(Tag::new(121)).ok()?.array(1).ok()?.bytes(payload).ok()?;
    Some(out.into_writer()).filter(|datum| datum.len() <= DATUM_BYTES_MAX)
}

/// A datum as `cardano-cli` takes it from a file: `{"constructor":0,"fields":[{"bytes":"<hex>"},…]}`.
pub fn datum_json(list: &[u8], signature: &str) -> Value {
    let payload = [br#"{"markers":"#.as_slice(), list, br#","signature":""#, signature.as_bytes(), b"\"}"].concat();
    let fields: Vec<Value> = payload.chunks(FIELD_BYTES).map(|field| json!({ "bytes": hex::encode(field) })).collect();
    json!({ "constructor": 0, "fields": fields })
}

/// Bytes of the datum in a transaction, as CBOR.
pub fn datum_bytes(datum: &Value) -> usize {
    let fields = datum.get("fields").and_then(Value::as_array).into_iter().flatten();
    let lengths = fields.filter_map(|field| Some(field.get("bytes")?.as_str()?.len() / 2));
    // A tag of two bytes, the beginning and the end of the list; a head of one byte for short strings, of two for the others.
    lengths.map(|length| length.saturating_add(if length < 24 { 1 } else { 2 })).fold(4, usize::saturating_add)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The datum as it lies on the chain.
    pub(crate) fn cbor(datum: &Value) -> Vec<u8> {
        let mut out = Encoder::new(Vec::new());
        out.tag(Tag::new(121)).unwrap().begin_array().unwrap();
        for field in datum["fields"].as_array().unwrap() {
            out.bytes(&hex::decode(field["bytes"].as_str().unwrap()).unwrap()).unwrap();
        }
        out.end().unwrap();
        out.into_writer()
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let list = serde_json::to_vec(&vec!["a".repeat(60), "b".repeat(70)]).unwrap();
        let datum = datum_json(&list, &"0".repeat(128));
        let fields = datum["fields"].as_array().unwrap();
        assert!(fields.iter().rev().skip(1).all(|field| field["bytes"].as_str().unwrap().len() == 128));
        let encoded = cbor(&datum);
        let signed = Signed::<String>::of_datum(&encoded).unwrap();
        assert_eq!((signed.markers.len(), signed.signature.unwrap().len()), (2, 128));
        assert_eq!(datum_bytes(&datum), encoded.len());
        let joined = payload(&encoded).unwrap();
        assert_eq!(payload(&super::datum(&joined).unwrap()), Some(joined));
        assert_eq!(super::datum(&vec![0; DATUM_BYTES_MAX]), None);
    }

    #[test]
    fn a_datum_of_another_kind_is_none_and_deep_nesting_does_no_harm() {
        for bad in
            [&b""[..], b"\x00", b"\xd8\x79", b"\xd8\x79\x9f", b"\xa0", b"\xd8\x79\x9b\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert_eq!(payload(bad), None, "{bad:02x?}");
        }
        let deep = [b"\xd8\x79\x81".to_vec(), vec![0x81; 60_000], vec![0x00]].concat();
        assert_eq!(payload(&deep), Some(Vec::new()));
        assert_eq!(payload(&vec![0; DATUM_BYTES_MAX + 1]), None);
    }

    #[test]
    fn byte_strings_in_pieces_are_joined_and_numbers_are_passed_over() {
        assert_eq!(payload(b"\xd8\x79\x83\x41a\x05\x5f\x41b\x41c\xff").unwrap(), b"abc");
    }
}
