//! The rule that nothing is signed twice.
//!
//! ```text
//! Policy   decide(history, duty)             → Fresh | Replay(entry) | Refuse(refusal)      pure
//! Ledger   advance(lane, expected, entry)    → Committed(version) | Conflict | Unknown      durable, linearizable
//! Guard    admit(duty, sign)                 → Answer | Denied                              begin and finish in one
//! Permit   exists only while `sign` runs, is taken by value, cannot be built, cloned or kept
//! Key      sign(permit, bytes)               → Signature; recomputes the digest of the bytes
//! Benign   the closed list of messages that cannot be slashed and need no permit
//! ```
//!
//! Nothing here opens a file, reads a clock or draws a random number, and nothing here depends on another crate of
//! this project. Invariants (numbers as operators meet them in the documentation):
//!
//! * at most one digest is ever admitted for one (key, chain, lane, position);
//! * a permit exists only after the ledger has said `Committed`, or has settled what it said `Written` of;
//! * floors never fall;
//! * a key that holds signs nothing at or below its bound;
//! * an unknown write outcome closes the position;
//! * the same question gets the same stored signature, and a lost signature is made again from the *stored* bytes.
//!
//! # A permit cannot be built outside
//! ```compile_fail,E0451
//! fn forged(permit: semel_guard::Permit<'_>) { let _other = semel_guard::Permit { version: 1, ..permit }; }
//! ```
//! # A permit cannot be cloned
//! ```compile_fail,E0599
//! fn twice(permit: semel_guard::Permit<'_>) { let _second = permit.clone(); }
//! ```
//! # A permit is used up by the signature
//! ```compile_fail,E0382
//! fn twice(key: &semel_guard::Key, permit: semel_guard::Permit<'_>) {
//!     let _ = key.sign(permit, b"a");
//!     let _ = key.sign(permit, b"b");
//! }
//! ```
//! # A permit cannot be kept
//! ```compile_fail
//! fn keep<L: semel_guard::Ledger>(guard: &semel_guard::Guard<L>, duty: &semel_guard::Duty<'_>) {
//!     let mut kept = None;
//!     let _ = guard.admit(duty, |permit, _| { kept = Some(permit); unreachable!() });
//! }
//! ```
//! # Bytes that passed the guard cannot be made outside
//! ```compile_fail,E0423
//! let admitted = semel_guard::Admitted(b"bytes");
//! ```

mod admit;
mod benign;
mod domain;
mod duty;
mod history;
mod hold;
mod key;
mod ledger;
mod policy;
mod position;
mod refusal;
mod subject;

pub use admit::{Answer, Begun, Denied, Guard, Pending, Permit};
pub use benign::{Benign, ERA_NAME_MAX, EraMark, EraNameError, RAW_BYTES_DOMAIN};
pub use domain::{DOMAIN_MAX, DOMAIN_MIN, Domain, DomainError};
pub use duty::{BYTES_MAX, Digest, Duty, DutyError};
pub use history::{Entry, History, RECENT_MAX, Version};
pub use hold::{HOLD_HEIGHTS, Hold, HoldCause};
pub use key::{Admitted, Key, SIGNATURE_MAX, SignError, Signature, SignatureError, Signer};
pub use ledger::{Advance, Begin, Ledger, Ticket, Unavailable};
pub use policy::{HEIGHT_FIRST_MAX, HEIGHT_LEAP_MAX, SLOT_FIRST_MAX, SLOT_LEAP_MAX, Verdict, decide};
pub use position::{EthereumDuty, Lane, Mark, Order, Position, SignedEntity, Step};
pub use refusal::{Reason, Refusal};
pub use subject::{Algorithm, CHAIN_ID_MAX, ChainId, PublicKey, Subject, SubjectError};

/// The steps of a Tendermint round, under the name of their field.
pub mod tendermint {
    pub use crate::position::Step;
}
