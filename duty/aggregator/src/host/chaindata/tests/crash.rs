//! Stops at any write.
