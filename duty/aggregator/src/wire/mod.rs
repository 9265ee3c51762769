//! What travels: bounded decoders, whatever the bytes.
//!
//! Mithril's own types decode the messages; what they leave open is closed here, before anything else sees a value. Recursion is bounded by
//! `serde_json` (128 levels), length by whoever read the bytes.

pub mod certificate;
