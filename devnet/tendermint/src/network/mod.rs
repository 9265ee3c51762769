//! Nodes around the state machine, and the networks that join them.
//!
//! [`Node`] is free of I/O, like the machine inside it. [`Simulation`] drives nodes on a virtual clock from a seed; [`live`] drives
//! them with threads on the real one. Both take the same [`Faults`].

pub mod dice;
pub mod faults;
pub mod live;
pub mod node;
pub mod signer;
pub mod simulation;

pub use faults::{Fate, Faults, Partition, Restart};
pub use node::{Conduct, Input, Message, Node, Output, Recipient, SharedPool, Status};
pub use signer::{OnceSigner, Unsigned, VoteSigner};
pub use simulation::{Simulation, SimulationConfig};
