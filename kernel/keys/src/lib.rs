//! Key files and signing backends.
