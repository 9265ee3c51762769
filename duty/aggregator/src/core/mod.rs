//! What is decided: no socket, file, clock, thread or random number in here; time and facts come in as data.

pub mod era;
pub mod markers;
pub mod protocol_configuration;
