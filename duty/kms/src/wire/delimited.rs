//! Length-delimited messages out of a stream of bytes.

use super::proto::{WireError, varint};

/// A stream that is not made of delimited messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DelimitedError {
    /// The message is longer than the reader takes.
    #[error("a message of {length} bytes is longer than {limit}")]
    TooLong {
        /// What the stream announces.
        length: u64,
        /// What the reader takes.
        limit: usize,
    },
    /// The length is no number.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Collects bytes and gives whole messages. Keeps what is left over for the next.
#[derive(Debug)]
pub struct Delimited {
    buffer: Vec<u8>,
    start: usize,
    limit: usize,
}

impl Delimited {
    /// A reader of messages of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, limit }
    }

    /// Where to append bytes from the stream.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        &mut self.buffer
    }

    /// The next whole message, without its length. None: more bytes are needed.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, DelimitedError> {
        let bytes = self.buffer.get(self.start..).unwrap_or_default();
        let Some((length, rest)) = varint(bytes)? else { return Ok(None) };
        let too_long = DelimitedError::TooLong { length, limit: self.limit };
        let length = usize::try_from(length).ok().filter(|length| *length <= self.limit).ok_or(too_long)?;
        let head = bytes.len() - rest.len();
        let Some(message) = rest.get(..length) else { return Ok(None) };
        self.start += head + length;
        Ok(Some(message))
    }
}
