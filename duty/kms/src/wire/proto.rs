//! Fields of protobuf and amino messages, read without copying.

/// Bytes that are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The message ends inside a field.
    #[error("the message ends inside a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("a number is longer than 64 bits")]
    Overflow,
    /// A field of a kind that is not used, or field number 0.
    #[error("field {0} has a wire type that is not used here")]
    WireType(u64),
    /// A known field of another kind, or out of its range.
    #[error("field {0} is not what it should be")]
    Field(u64),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// Amino: not one of the registered messages. Protobuf: no member, or more than one.
    #[error("not a request or reply of the privval protocol")]
    NotAMessage,
}

/// One field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) value: Value<'a>,
    /// The whole field, with its tag.
    pub(crate) raw: &'a [u8],
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Field(self.number)),
        }
    }

    pub(crate) fn string(&self) -> Result<String, WireError> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| WireError::Utf8)
    }

    pub(crate) fn int64(&self) -> Result<i64, WireError> {
        match self.value {
            Value::Varint(value) => Ok(value.cast_signed()),
            _ => Err(WireError::Field(self.number)),
        }
    }

    pub(crate) fn int32(&self) -> Result<i32, WireError> {
        i32::try_from(self.int64()?).map_err(|_| WireError::Field(self.number))
    }

    pub(crate) fn uint32(&self) -> Result<u32, WireError> {
        u32::try_from(self.int64()?).map_err(|_| WireError::Field(self.number))
    }

    pub(crate) fn fixed_int(&self) -> Result<i64, WireError> {
        match self.value {
            Value::Fixed64(value) => Ok(value.cast_signed()),
            _ => Err(WireError::Field(self.number)),
        }
    }
}

/// Reads a varint from the front. None where the bytes end inside it.
pub(crate) fn varint(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, WireError> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        if index == 9 && *byte > 1 {
            return Err(WireError::Overflow);
        }
        value |= part << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, bytes.get(index + 1..).unwrap_or_default())));
        }
    }
    if bytes.len() >= 10 { Err(WireError::Overflow) } else { Ok(None) }
}

/// The fields of a message, in order.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<Field<'a>, WireError> {
        let whole = self.0;
        let (tag, rest) = varint(whole)?.ok_or(WireError::Truncated)?;
        let number = tag >> 3;
        let (value, rest) = match tag & 7 {
            _ if number == 0 => return Err(WireError::WireType(0)),
            0 => {
                let (value, rest) = varint(rest)?.ok_or(WireError::Truncated)?;
                (Value::Varint(value), rest)
            }
            1 => {
                let (value, rest) = rest.split_first_chunk::<8>().ok_or(WireError::Truncated)?;
                (Value::Fixed64(u64::from_le_bytes(*value)), rest)
            }
            2 => {
                let (len, rest) = varint(rest)?.ok_or(WireError::Truncated)?;
                let len = usize::try_from(len).map_err(|_| WireError::Truncated)?;
                let (bytes, rest) = rest.split_at_checked(len).ok_or(WireError::Truncated)?;
                (Value::Bytes(bytes), rest)
            }
            5 => {
                let (value, rest) = rest.split_first_chunk::<4>().ok_or(WireError::Truncated)?;
                (Value::Fixed32(u32::from_le_bytes(*value)), rest)
            }
            _ => return Err(WireError::WireType(number)),
        };
        let raw = whole.get(..whole.len() - rest.len()).unwrap_or_default();
        self.0 = rest;
        Ok(Field { number, value, raw })
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length-delimited field, also where it is empty.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a length-delimited field unless it is empty.
pub(crate) fn put_filled(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_bytes(out, number, bytes);
    }
}

/// Appends a varint field unless it is zero. Negative numbers take ten bytes.
pub(crate) fn put_int(out: &mut Vec<u8>, number: u64, value: i64) {
    if value != 0 {
        put_varint(out, number << 3);
        put_varint(out, value.cast_unsigned());
    }
}

/// Appends a fixed 64-bit field unless it is zero.
pub(crate) fn put_fixed(out: &mut Vec<u8>, number: u64, value: i64) {
    if value != 0 {
        put_varint(out, number << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}
