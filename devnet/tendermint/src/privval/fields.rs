//! Fields of protobuf and amino structs: a bounded reader and a writer.
//!
//! Both encodings share tags, varints and length-delimited bytes. The reader never allocates and never reads past its slice.

/// A struct that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The bytes end inside a field.
    #[error("the message ends inside a field")]
    Short,
    /// A varint of more than ten bytes or 64 bits.
    #[error("a number has more than 64 bits")]
    Long,
    /// A wire type that neither encoding has.
    #[error("wire type {0} is unknown")]
    WireType(u8),
    /// A field of another type than it should be.
    #[error("field {0} has the wrong type")]
    Type(u64),
    /// Bytes of the wrong length.
    #[error("field {0} has the wrong length")]
    Length(u64),
    /// A number outside its range.
    #[error("field {0} is out of range")]
    Range(u64),
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Number(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5.
    Fixed(u64),
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// Its value.
    pub value: Value<'a>,
}

impl<'a> Field<'a> {
    /// Its bytes.
    pub const fn bytes(&self) -> Result<&'a [u8], FieldError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(FieldError::Type(self.number)),
        }
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], FieldError> {
        self.bytes()?.try_into().map_err(|_| FieldError::Length(self.number))
    }

    /// Its number, as a signed one.
    pub const fn signed(&self) -> Result<i64, FieldError> {
        match self.value {
            Value::Number(number) => Ok(number.cast_signed()),
            _ => Err(FieldError::Type(self.number)),
        }
    }

    /// Its number in the range of `T`.
    pub fn number<T: TryFrom<i64>>(&self) -> Result<T, FieldError> {
        T::try_from(self.signed()?).map_err(|_| FieldError::Range(self.number))
    }
}

/// Reads fields one after another.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A reader of one struct.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next field; `None` at the end of the struct.
    pub fn field(&mut self) -> Result<Option<Field<'a>>, FieldError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        let value = match (tag & 7) as u8 {
            0 => Value::Number(self.varint()?),
            1 => Value::Fixed(self.fixed::<8>()?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| FieldError::Short)?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Fixed(self.fixed::<4>()?),
            other => return Err(FieldError::WireType(other)),
        };
        Ok(Some(Field { number, value }))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], FieldError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(FieldError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn fixed<const N: usize>(&mut self) -> Result<u64, FieldError> {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(self.take(N)?).for_each(|(to, from)| *to = *from);
        Ok(u64::from_le_bytes(bytes))
    }

    fn varint(&mut self) -> Result<u64, FieldError> {
        let (value, len) = read_varint(self.0)?.ok_or(FieldError::Short)?;
        self.take(len)?;
        Ok(value)
    }
}

/// A varint at the head of `bytes` and its length; `None` if it has not ended yet.
pub fn read_varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, FieldError> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate() {
        let shift = (index as u32).saturating_mul(7);
        let part = u64::from(byte & 0x7f);
        if index >= 10 || (index == 9 && part > 1) {
            return Err(FieldError::Long);
        }
        value |= part.wrapping_shl(shift);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index.saturating_add(1))));
        }
    }
    Ok(None)
}

/// Appends a varint.
pub fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number; 0 is absent.
pub fn write_number(out: &mut Vec<u8>, field: u8, value: i64) {
    if value != 0 {
        out.push(field << 3);
        write_varint(out, value.cast_unsigned());
    }
}

/// Appends bytes; empty ones are absent.
pub fn write_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        write_struct(out, field, bytes);
    }
}

/// Appends an inner struct, also an empty one.
pub fn write_struct(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    write_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_come_back_and_longer_ones_are_refused() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                write_varint(&mut bytes, value);
                assert_eq!(read_varint(&bytes), Ok(Some((value, bytes.len()))));
                assert_eq!(read_varint(&bytes[..bytes.len() - 1]), Ok(None));
            }
        }
        assert_eq!(read_varint(&[0xff; 11]), Err(FieldError::Long));
        assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), Err(FieldError::Long));
    }

    #[test]
    fn broken_structs_are_errors() {
        let table: &[(&[u8], FieldError)] = &[
            (&[0x08], FieldError::Short),
            (&[0x0a, 5, 1], FieldError::Short),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], FieldError::Short),
            (&[0x09, 1, 2, 3], FieldError::Short),
            (&[0x0b], FieldError::WireType(3)),
        ];
        for (bytes, error) in table {
            assert_eq!(Reader::new(bytes).field(), Err(*error), "{bytes:?}");
        }
    }
}
