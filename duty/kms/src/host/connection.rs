//! One connection to one node once the two have met: bytes in, requests out, replies in, bytes out. It never blocks.
//!
//! Requests are answered strictly one after another, each with one write. While a node does not take a reply, nothing more is
//! read from it.

use super::answer::Context;
use super::channel::{Channel, Greeted};
use super::ended::Ended;
use super::stream::Stream;
use crate::core::peer_id::PeerId;
use crate::wire::{Delimited, Family, Request, Response, WireError, family_of};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest request, in bytes: proposals of some chains are large; 1 MiB and room for its envelope.
pub const REQUEST_MAX: usize = (1 << 20) + 4096;

/// See the module.
pub(crate) struct Connection {
    pub(super) context: Arc<Context>,
    stream: Stream,
    channel: Channel,
    family: Option<Family>,
    messages: Delimited,
    /// The reply on its way, and how much of it is out.
    output: Vec<u8>,
    sent: usize,
    /// Bytes that come one by one are no message: each has the whole of `timeout`, and no more; as has each reply.
    heard: Instant,
    asked: bool,
}

/// A request that came.
pub(super) struct Received {
    pub(super) request: Request,
    pub(super) family: Family,
    pub(super) at: Instant,
    /// Time to decode it.
    pub(super) decode: Duration,
}

impl Connection {
    /// Goes on where the handshake ended.
    pub(crate) fn new(stream: Stream, context: Arc<Context>, greeted: Greeted) -> io::Result<Self> {
        stream.set_nonblocking()?;
        let Greeted { channel, family, mut rest, .. } = greeted;
        let mut messages = Delimited::new(REQUEST_MAX);
        messages.buffer().append(&mut rest);
        let (output, heard) = (Vec::new(), Instant::now());
        Ok(Self { context, stream, channel, family, messages, output, sent: 0, heard, asked: false })
    }

    /// The socket, to wait for.
    pub(super) const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether a reply waits for the node to take it.
    pub(super) const fn is_sending(&self) -> bool {
        self.sent < self.output.len()
    }

    /// When the node has been silent for too long.
    pub(super) fn deadline(&self) -> Instant {
        self.heard + self.context.plan.timeout
    }

    /// What the node gets to hear of it.
    pub(super) fn silent(&self) -> Ended {
        match self.is_sending() {
            true => io::Error::from(io::ErrorKind::TimedOut).into(),
            false => Ended::Silent(self.context.plan.timeout.as_secs()),
        }
    }

    /// Ends it for the node, too, whoever else holds the socket.
    pub(super) fn close(&self) {
        self.stream.close();
    }

    /// Reads once.
    pub(super) fn fill(&mut self, input: &mut [u8]) -> Result<(), Ended> {
        let count = match self.stream.read(input) {
            Ok(0) => return Err(self.closed()),
            Ok(count) => count,
            Err(error) if is_for_now(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.channel.open(input.get(..count).unwrap_or_default(), self.messages.buffer())
    }

    fn closed(&self) -> Ended {
        match (&self.channel, &self.context.plan.identity) {
            (Channel::Noise(_), Some(identity)) if !self.asked => Ended::NotWelcome(PeerId::of(identity.public_key())),
            _ => Ended::Closed,
        }
    }

    /// The next request, if it is whole and the reply before it is out.
    pub(super) fn request(&mut self) -> Result<Option<Received>, Ended> {
        if self.is_sending() {
            return Ok(None);
        }
        let Some(message) = self.messages.next_message()? else { return Ok(None) };
        let at = Instant::now();
        let family = match self.family {
            Some(family) => family,
            None => *self.family.insert(family_of(message).ok_or(WireError::NotAMessage)?),
        };
        let request = Request::decode(family, message)?;
        Ok(Some(Received { request, family, at, decode: at.elapsed() }))
    }

    /// Sends the reply to the last request, or as much of it as the node takes now.
    pub(super) fn reply(&mut self, response: &Response, family: Family) -> Result<(), Ended> {
        self.output.clear();
        self.sent = 0;
        self.channel.seal(&response.encode(family), &mut self.output)?;
        self.heard = Instant::now();
        self.asked = true;
        self.send()
    }

    /// Sends what is left of a reply.
    pub(super) fn send(&mut self) -> Result<(), Ended> {
        while let Some(rest @ [_, ..]) = self.output.get(self.sent..) {
            match self.stream.write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => {
                    self.sent += count;
                    self.heard = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_for_now(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Whether the same may go well later.
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
