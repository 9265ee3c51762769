//! What other signers keep, read and written.
