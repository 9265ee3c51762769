//! Who signs for a node.
//!
//! [`VoteSigner`] is what a node asks; over the wire it is a remote signer, in simulations a [`OnceSigner`] in the same process.

use crate::consensus::{
    Encoding, Height, Kind, Round, SignRequest, Signed, SignedProposal, SignedVote, VoteKind,
    canonical::{extension_sign_bytes, proposal_sign_bytes, vote_sign_bytes},
};
use ed25519_dalek::{Signer as _, SigningKey};

/// A request without a signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// The signer answered no; final for this message.
    #[error("refused with code {code}: {description}")]
    Refused {
        /// The error's code.
        code: i32,
        /// The error's words.
        description: String,
    },
    /// There was no answer, or one that cannot be used.
    #[error("{0}")]
    Failed(String),
}

/// Signs what a node asks for.
pub trait VoteSigner {
    /// Signs `request` for validator `validator`. A vote may come back with an earlier time.
    fn sign(&mut self, validator: u32, request: &SignRequest) -> Result<Signed, Unsigned>;
}

/// A signer in the same process that signs each position once and repeats itself when asked again.
#[derive(Debug)]
pub struct OnceSigner {
    key: SigningKey,
    chain: String,
    encoding: Encoding,
    /// Signs anything if set: the signer of a dishonest validator.
    reckless: bool,
    last: Option<(Place, Signed)>,
}

type Place = (Height, Round, Kind);

impl OnceSigner {
    /// An honest signer.
    pub fn new(seed: [u8; 32], chain: &str, encoding: Encoding) -> Self {
        Self { key: SigningKey::from_bytes(&seed), chain: chain.into(), encoding, reckless: false, last: None }
    }

    /// A signer that signs anything.
    pub fn reckless(seed: [u8; 32], chain: &str, encoding: Encoding) -> Self {
        Self { reckless: true, ..Self::new(seed, chain, encoding) }
    }

    /// Its public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn make(&self, validator: u32, request: &SignRequest) -> Signed {
        match request {
            SignRequest::Proposal(proposal, block) => {
                let bytes = proposal_sign_bytes(self.encoding, &self.chain, proposal);
                let signature = self.key.sign(&bytes).to_bytes();
                let (proposal, block) = (proposal.clone(), block.clone());
                Signed::Proposal(SignedProposal { proposal, proposer: validator, block, signature })
            }
            SignRequest::Vote(vote) => {
                let signature = self.key.sign(&vote_sign_bytes(self.encoding, &self.chain, vote)).to_bytes();
                let extended = vote.kind == VoteKind::Precommit && vote.block.is_some() && !vote.extension.is_empty();
                let extension_signature = extended.then(|| {
                    let bytes = extension_sign_bytes(&self.chain, vote.height, vote.round, &vote.extension);
                    self.key.sign(&bytes).to_bytes()
                });
                Signed::Vote(SignedVote { vote: vote.clone(), signature, extension_signature })
            }
        }
    }
}

impl VoteSigner for OnceSigner {
    fn sign(&mut self, validator: u32, request: &SignRequest) -> Result<Signed, Unsigned> {
        if self.reckless {
            return Ok(self.make(validator, request));
        }
        let place = (request.height(), request.round(), request.kind());
        if let Some((last, signed)) = &self.last {
            if *last == place {
                let block = match signed {
                    Signed::Proposal(signed) => Some(signed.proposal.block),
                    Signed::Vote(signed) => signed.vote.block,
                };
                if block == request.block() {
                    return Ok(signed.clone());
                }
            }
            if *last >= place {
                return Err(Unsigned::Refused { code: 2, description: "conflicting or earlier position".into() });
            }
        }
        let signed = self.make(validator, request);
        self.last = Some((place, signed.clone()));
        Ok(signed)
    }
}
