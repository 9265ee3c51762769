//! What is decided: no socket, file, clock, thread or random number in here; time and facts come in as data.
//!
//! | Module | What it decides |
//! |---|---|
//! | [`certificates`] | whether a certificate holds, and whether it continues a chain |
//! | [`entity`] | what can be certified now, for how long, and in which order |
//! | [`era`], [`markers`] | the era of the network, and what is announced on its chain |
//! | [`lottery`] | whether a signer's value wins |
//! | [`merkle`] | roots and proofs over blocks, transactions and files |
//! | [`message`] | what the signers of an epoch have to sign |
//! | [`protocol_configuration`] | configurations announced for epochs to come |
//! | [`registration`] | who may sign two epochs from now |
//! | [`roster`] | the signers of one epoch: their keys, their lottery, their aggregate |
//! | [`runtime`] | what the aggregator does next |
//! | [`seal`] | that a certificate is made once |
//! | [`tickers`] | what pools call themselves |

pub mod certificates;
pub mod entity;
pub mod era;
pub mod lottery;
pub mod markers;
pub mod merkle;
pub mod message;
pub mod protocol_configuration;
pub mod registration;
pub mod roster;
pub mod runtime;
pub mod seal;
pub mod tickers;
