//! A connected signer.

use super::{
    Family, MESSAGE_DEADLINE,
    fields::{FieldError, read_varint, write_varint},
    messages::{ANSWER_MAX, Answer, AnswerError, Echo, Request, Scratch, SignerError, SignerKey},
    secret::shake,
    socket::Socket,
};
use crate::consensus::{
    Encoding, Proposal, SignedVote, Vote, VoteKind,
    canonical::{extension_sign_bytes, proposal_sign_bytes, vote_sign_bytes},
};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use semel_kms::core::secret::{Established, FRAME_LEN, SecretError};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    io::{Read as _, Write as _},
    time::Instant,
};

/// Reads at once, in bytes: room for the frames of most answers.
const READ_CHUNK: usize = 4_096;

/// A conversation that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The signer said no; the connection is fine.
    #[error("the signer refused: {0}")]
    Refused(#[from] SignerError),
    /// The connection failed or was closed.
    #[error("the connection failed")]
    Connection(#[from] std::io::Error),
    /// The encrypted channel failed.
    #[error("the encrypted channel failed")]
    Secret(#[from] SecretError),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The answer cannot be read.
    #[error("the answer cannot be read")]
    Unreadable(#[from] AnswerError),
    /// The answer is longer than a node reads.
    #[error("the answer has {0} bytes, a node reads {ANSWER_MAX}")]
    TooLong(u64),
    /// An answer to another question.
    #[error("the answer is for another request")]
    Mismatch,
    /// A field came back changed.
    #[error("the answer has another {0}")]
    Changed(&'static str),
    /// A signature that is missing, of another length, or does not verify.
    #[error("the signature of the {0} does not verify")]
    BadSignature(&'static str),
    /// The key was not asked for, or is no Ed25519 key.
    #[error("the signer's key is unknown or of another kind")]
    NoKey,
}

impl RemoteError {
    /// Whether the signer answered an error and may be asked the next thing.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl From<FieldError> for RemoteError {
    fn from(error: FieldError) -> Self {
        Self::Unreadable(error.into())
    }
}

/// See the [module](super).
pub struct Remote {
    socket: Socket,
    secret: Option<Box<Established>>,
    chain: String,
    family: Family,
    extensions: bool,
    key: Option<(VerifyingKey, [u8; 20])>,
    scratch: Scratch,
    message: Vec<u8>,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Bytes of `incoming` that belong to the last message and go with the next read.
    spent: usize,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({:?}, {})", self.socket, self.family)
    }
}

impl Remote {
    pub(crate) fn greet(
        mut socket: Socket,
        chain: &str,
        family: Family,
        extensions: bool,
        identity: &SigningKey,
    ) -> Result<Self, RemoteError> {
        let secret = match &socket {
            Socket::Tcp(_) => Some(shake(&mut socket, family, identity)?),
            Socket::Unix(_) => None,
        };
        // What came behind the handshake belongs to the first message.
        let mut incoming = Vec::with_capacity(2 * READ_CHUNK);
        if let Some(secret) = &secret {
            incoming.extend_from_slice(&secret.rest);
        }
        Ok(Self {
            socket,
            secret,
            chain: chain.into(),
            family,
            extensions,
            key: None,
            scratch: Scratch::default(),
            message: Vec::with_capacity(512),
            outgoing: Vec::with_capacity(2 * FRAME_LEN),
            incoming,
            spent: 0,
        })
    }

    /// The signer's identity on the encrypted channel; not its validator key.
    pub fn peer(&self) -> Option<[u8; 32]> {
        self.secret.as_ref().map(|secret| secret.peer)
    }

    /// The connection itself, for deadlines and hanging up.
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Asks for the public key, and verifies signatures with it from now on.
    pub fn pub_key(&mut self) -> Result<SignerKey, RemoteError> {
        let Answer::PubKey(answer) = self.ask(&Request::PubKey)? else { return Err(RemoteError::Mismatch) };
        let key = answer?;
        if let SignerKey::Ed25519(bytes) = &key {
            let verifying = VerifyingKey::from_bytes(bytes).map_err(|_| RemoteError::NoKey)?;
            let mut address = [0; 20];
            address.iter_mut().zip(Sha256::digest(bytes)).for_each(|(to, from)| *to = from);
            self.key = Some((verifying, address));
        }
        Ok(key)
    }

    /// Asks whether the signer is there.
    pub fn ping(&mut self) -> Result<(), RemoteError> {
        match self.ask(&Request::Ping)? {
            Answer::Pong => Ok(()),
            _ => Err(RemoteError::Mismatch),
        }
    }

    /// Asks for a signature of `vote`. The answer is compared and verified; it may carry an earlier time.
    pub fn sign_vote(&mut self, vote: &Vote) -> Result<SignedVote, RemoteError> {
        let signed = self.ask_vote(vote)?;
        self.verify_vote(&signed)?;
        Ok(signed)
    }

    /// Like [`sign_vote`](Self::sign_vote), without verifying the signatures.
    pub fn ask_vote(&mut self, vote: &Vote) -> Result<SignedVote, RemoteError> {
        self.seal_vote(vote)?;
        self.send_sealed()?;
        self.receive_vote(vote)
    }

    /// Makes the request for a signature of `vote`, to be sent with [`send_sealed`](Self::send_sealed): for measuring.
    pub fn seal_vote(&mut self, vote: &Vote) -> Result<(), RemoteError> {
        self.seal_request(&Request::Vote(vote, self.address()))
    }

    /// The answer to a request for a signature of `vote`. It is compared, and not verified.
    pub fn receive_vote(&mut self, vote: &Vote) -> Result<SignedVote, RemoteError> {
        let Answer::Vote(answer) = self.answer()? else { return Err(RemoteError::Mismatch) };
        let (echo, address) = (answer?, self.address());
        let kind = if vote.kind == VoteKind::Prevote { 1 } else { 2 };
        compare(echo.kind == kind, "type")?;
        compare(echo.height == vote.height.0.cast_signed(), "height")?;
        compare(echo.round == i64::from(vote.round.0), "round")?;
        compare(echo.block == vote.block, "block id")?;
        compare(echo.address == address, "validator address")?;
        compare(echo.index == i64::from(vote.validator), "validator index")?;
        compare(echo.extension.is_empty() || echo.extension == vote.extension, "extension")?;
        let signature = fixed(&echo.signature, "vote")?;
        let extension_signature = self.extension_signature(vote, &echo)?;
        Ok(SignedVote { vote: Vote { time: echo.time, ..vote.clone() }, signature, extension_signature })
    }

    fn address(&self) -> [u8; 20] {
        self.key.as_ref().map_or([0; 20], |(_, address)| *address)
    }

    /// As nodes of v0.38 have it: never on a prevote or for nil; wanted if extensions are enabled, and else not looked at.
    fn extension_signature(&self, vote: &Vote, echo: &Echo) -> Result<Option<[u8; 64]>, RemoteError> {
        let extendable = vote.kind == VoteKind::Precommit && vote.block.is_some();
        match (echo.extension_signature.is_empty(), extendable) {
            (false, false) => Err(RemoteError::Changed("extension signature")),
            (false, true) if self.extensions => fixed(&echo.extension_signature, "extension").map(Some),
            (true, true) if self.extensions => Err(RemoteError::BadSignature("extension")),
            _ => Ok(None),
        }
    }

    /// Verifies a signed vote with the signer's key.
    pub fn verify_vote(&self, signed: &SignedVote) -> Result<(), RemoteError> {
        let vote = &signed.vote;
        self.verify(&vote_sign_bytes(self.encoding(), &self.chain, vote), &signed.signature, "vote")?;
        match &signed.extension_signature {
            None => Ok(()),
            Some(signature) => {
                let bytes = extension_sign_bytes(&self.chain, vote.height, vote.round, &vote.extension);
                self.verify(&bytes, signature, "extension")
            }
        }
    }

    /// Asks for a signature of `proposal`. The answer is compared and verified.
    ///
    /// A signature for an earlier time comes back with that time, and the proposal with it.
    pub fn sign_proposal(&mut self, proposal: &Proposal) -> Result<(Proposal, [u8; 64]), RemoteError> {
        let (proposal, signature) = self.ask_proposal(proposal)?;
        self.verify_proposal(&proposal, &signature)?;
        Ok((proposal, signature))
    }

    /// Like [`sign_proposal`](Self::sign_proposal), without verifying the signature.
    pub fn ask_proposal(&mut self, proposal: &Proposal) -> Result<(Proposal, [u8; 64]), RemoteError> {
        self.seal_proposal(proposal)?;
        self.send_sealed()?;
        self.receive_proposal(proposal)
    }

    /// Makes the request for a signature of `proposal`, to be sent with [`send_sealed`](Self::send_sealed): for measuring.
    pub fn seal_proposal(&mut self, proposal: &Proposal) -> Result<(), RemoteError> {
        self.seal_request(&Request::Proposal(proposal))
    }

    /// The answer to a request for a signature of `proposal`. It is compared, and not verified.
    pub fn receive_proposal(&mut self, proposal: &Proposal) -> Result<(Proposal, [u8; 64]), RemoteError> {
        let Answer::Proposal(answer) = self.answer()? else { return Err(RemoteError::Mismatch) };
        let echo = answer?;
        compare(echo.kind == 32, "type")?;
        compare(echo.height == proposal.height.0.cast_signed(), "height")?;
        compare(echo.round == i64::from(proposal.round.0), "round")?;
        compare(echo.pol_round == proposal.pol_round.map_or(-1, |round| i64::from(round.0)), "pol round")?;
        compare(echo.block == Some(proposal.block), "block id")?;
        let signature = fixed(&echo.signature, "proposal")?;
        Ok((Proposal { time: echo.time, ..proposal.clone() }, signature))
    }

    /// Verifies a signed proposal with the signer's key.
    pub fn verify_proposal(&self, proposal: &Proposal, signature: &[u8; 64]) -> Result<(), RemoteError> {
        self.verify(&proposal_sign_bytes(self.encoding(), &self.chain, proposal), signature, "proposal")
    }

    fn verify(&self, bytes: &[u8], signature: &[u8; 64], what: &'static str) -> Result<(), RemoteError> {
        let (key, _) = self.key.as_ref().ok_or(RemoteError::NoKey)?;
        key.verify_strict(bytes, &Signature::from_bytes(signature)).map_err(|_| RemoteError::BadSignature(what))
    }

    const fn encoding(&self) -> Encoding {
        self.family.encoding()
    }

    /// One request and its answer.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Answer, RemoteError> {
        self.seal_request(request)?;
        self.send_sealed()?;
        self.answer()
    }

    fn seal_request(&mut self, request: &Request<'_>) -> Result<(), RemoteError> {
        let mut message = std::mem::take(&mut self.message);
        request.write(self.encoding(), &self.chain, &mut self.scratch, &mut message);
        let sealed = self.seal_delimited(&message);
        self.message = message;
        sealed
    }

    fn answer(&mut self) -> Result<Answer, RemoteError> {
        let encoding = self.encoding();
        Ok(Answer::read(encoding, self.receive()?)?)
    }

    /// Sends a message with its length in front.
    pub fn send(&mut self, message: &[u8]) -> Result<(), RemoteError> {
        self.seal_delimited(message)?;
        self.send_sealed()
    }

    fn seal_delimited(&mut self, message: &[u8]) -> Result<(), RemoteError> {
        let mut delimited = std::mem::take(&mut self.scratch.delimited);
        delimited.clear();
        write_varint(&mut delimited, message.len() as u64);
        delimited.extend_from_slice(message);
        let sealed = self.seal_raw(&delimited);
        self.scratch.delimited = delimited;
        sealed
    }

    /// Sends bytes as they are (inside the encrypted channel, if there is one), with a single write.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.seal_raw(bytes)?;
        self.send_sealed()
    }

    fn seal_raw(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.outgoing.clear();
        match &mut self.secret {
            None => self.outgoing.extend_from_slice(bytes),
            Some(secret) => secret.sealer.seal(bytes, &mut self.outgoing)?,
        }
        Ok(())
    }

    /// Sends what was made last, with a single write.
    pub fn send_sealed(&mut self) -> Result<(), RemoteError> {
        self.socket.write_all(&self.outgoing).map_err(in_time)
    }

    /// Sends bytes below the encrypted channel: for breaking it.
    pub fn send_unsealed(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        self.socket.write_all(bytes).map_err(in_time)
    }

    /// The next message, without its length. Valid until the next call.
    pub fn receive(&mut self) -> Result<&[u8], RemoteError> {
        let begin = Instant::now();
        self.incoming.drain(..self.spent);
        self.spent = 0;
        let (start, end) = loop {
            if let Some((len, head)) = read_varint(&self.incoming)? {
                if len > ANSWER_MAX as u64 {
                    return Err(RemoteError::TooLong(len));
                }
                let end = head.saturating_add(len as usize);
                if self.incoming.len() >= end {
                    break (head, end);
                }
            }
            // Each read has a deadline of its own; this one is the message's.
            if begin.elapsed() > MESSAGE_DEADLINE {
                return Err(RemoteError::TimedOut);
            }
            self.read_more()?;
        };
        self.spent = end;
        self.incoming.get(start..end).ok_or(RemoteError::Mismatch)
    }

    fn read_more(&mut self) -> Result<(), RemoteError> {
        let mut chunk = [0; READ_CHUNK];
        let read = self.socket.read(&mut chunk).map_err(in_time)?;
        if read == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        match &mut self.secret {
            Some(secret) => secret.opener.push(bytes, &mut self.incoming)?,
            None => self.incoming.extend_from_slice(bytes),
        }
        Ok(())
    }
}

pub(super) fn in_time(error: std::io::Error) -> RemoteError {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => RemoteError::TimedOut,
        _ => error.into(),
    }
}

fn compare(same: bool, what: &'static str) -> Result<(), RemoteError> {
    if same { Ok(()) } else { Err(RemoteError::Changed(what)) }
}

fn fixed(signature: &[u8], what: &'static str) -> Result<[u8; 64], RemoteError> {
    signature.try_into().map_err(|_| RemoteError::BadSignature(what))
}
