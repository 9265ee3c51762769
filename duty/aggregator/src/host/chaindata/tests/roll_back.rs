//! Roll-backs.
