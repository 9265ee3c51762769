//! Inline datums in a node's answer to *what lies at this address*.
//!
//! The answer is a CBOR map from inputs to outputs. An output with an inline datum is itself a map whose key 2 is
//! `[1, #6.24(bytes)]`; older outputs are arrays and have none. Anyone may have put anything there: nothing here recurses,
//! datums are cut out as they are, at most [`DATUMS_MAX`] of at most [`DATUM_BYTES_MAX`] bytes.

use pallas_codec::minicbor::data::{Tag, Type};
use pallas_codec::minicbor::decode::{Decoder, Error};

/// Datums at one address.
pub(super) const DATUMS_MAX: usize = 10_000;

/// Bytes of one datum; a transaction is at most 16 kB.
pub(super) const DATUM_BYTES_MAX: usize = 64 * 1024;

/// Key of the datum in an output.
const DATUM_KEY: u64 = 2;

/// Inline datums, in the order of the outputs.
pub(super) fn inline_datums(answer: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut datums = Vec::new();
    let mut decoder = Decoder::new(answer);
    let length = decoder.map()?;
    each(&mut decoder, length, |decoder| {
        decoder.skip()?;
        if let Some(datum) = output_datum(decoder)? {
            if datums.len() >= DATUMS_MAX {
                return Err(Error::message("too many datums at one address"));
            }
            datums.push(datum);
        }
        Ok(())
    })?;
    Ok(datums)
}

/// Reads a map's or array's members until its length is reached or its end is marked.
fn each<'b>(
    decoder: &mut Decoder<'b>,
    length: Option<u64>,
    mut member: impl FnMut(&mut Decoder<'b>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut read = 0_u64;
    loop {
        match length {
            Some(length) if read >= length => return Ok(()),
            None if decoder.datatype()? == Type::Break => return decoder.skip(),
            _ => member(decoder)?,
        }
        read = read.saturating_add(1);
    }
}

fn output_datum(decoder: &mut Decoder<'_>) -> Result<Option<Vec<u8>>, Error> {
    if !matches!(decoder.datatype()?, Type::Map | Type::MapIndef) {
        decoder.skip()?;
        return Ok(None);
    }
    let mut datum = None;
    let length = decoder.map()?;
    each(decoder, length, |decoder| {
        if decoder.u64()? != DATUM_KEY {
            return decoder.skip();
        }
        let end = {
            let mut ahead = decoder.clone();
            ahead.skip()?;
            ahead.position()
        };
        datum = datum_option(decoder)?;
        decoder.set_position(end);
        Ok(())
    })?;
    Ok(datum)
}

fn datum_option(decoder: &mut Decoder<'_>) -> Result<Option<Vec<u8>>, Error> {
    decoder.array()?;
    if decoder.u8()? != 1 {
        return Ok(None);
    }
    if decoder.tag()? != Tag::new(24) {
        return Err(Error::message("an inline datum without its tag"));
    }
    let mut datum = Vec::new();
    for part in decoder.bytes_iter()? {
        datum.extend_from_slice(part?);
        if datum.len() > DATUM_BYTES_MAX {
            return Err(Error::message("an inline datum that is too long"));
        }
    }
    Ok(Some(datum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pallas_codec::minicbor::Encoder;

    fn answer(outputs: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut e = Encoder::new(&mut bytes);
        e.map(outputs.len() as u64).unwrap();
        for (index, output) in outputs.iter().enumerate() {
            e.array(2).unwrap().bytes(&[7; 32]).unwrap().u64(index as u64).unwrap();
            e.writer_mut().extend_from_slice(output);
        }
        bytes
    }

    fn output(datum: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut e = Encoder::new(&mut bytes);
        e.map(3).unwrap().u8(0).unwrap().bytes(b"address").unwrap().u8(1).unwrap().u64(5).unwrap();
        e.u8(2).unwrap().array(2).unwrap().u8(1).unwrap().tag(Tag::new(24)).unwrap().bytes(datum).unwrap();
        bytes
    }

    #[test]
    fn datums_are_cut_out_whatever_they_contain() {
        let deep = vec![0x81; 16_000];
        let mut legacy = Vec::new();
        Encoder::new(&mut legacy).array(2).unwrap().bytes(b"address").unwrap().u64(5).unwrap();
        let mut hashed = Vec::new();
        Encoder::new(&mut hashed)
            .map(1)
            .unwrap()
            .u8(2)
            .unwrap()
            .array(2)
            .unwrap()
            .u8(0)
            .unwrap()
            .bytes(&[1; 32])
            .unwrap();
        let found = inline_datums(&answer(&[&output(b"one"), &legacy, &hashed, &output(&deep)])).unwrap();
        assert_eq!(found, [b"one".to_vec(), deep]);
    }

    #[test]
    fn a_datum_that_is_too_long_and_bytes_that_are_no_map_are_refused() {
        assert!(inline_datums(&answer(&[&output(&vec![0; DATUM_BYTES_MAX + 1])])).is_err());
        for bytes in [&[][..], &[0x80], &[0xbf], &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255, 0]] {
            assert!(inline_datums(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_node_says_is_an_answer_or_an_error(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
            cut in 0_usize..200,
            flips in proptest::collection::vec((0_usize..200, proptest::num::u8::ANY), 0..4),
        ) {
            drop(inline_datums(&bytes));
            let mut real = answer(&[&output(b"one"), &output(b"two")]);
            real.truncate(real.len().saturating_sub(cut));
            for (at, value) in flips {
                if let Some(byte) = real.get_mut(at) {
                    *byte = value;
                }
            }
            let found = inline_datums(&real).unwrap_or_default();
            proptest::prop_assert!(found.len() <= 200 && found.iter().all(|datum| datum.len() <= real.len()));
        }
    }
}
