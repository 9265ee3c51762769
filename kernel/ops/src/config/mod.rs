//! TOML configuration with spans: every error at once, each with file, line, column, a code and a hint.
//!
//! The way of a file: [`parse`] makes a [`Document`] of a [`Source`]; a [`Reader`] reads a table key by key into values
//! that know their [`Place`]; what is wrong is pushed to [`Diagnostics`] and reading goes on; [`Reader::finish`] reports the
//! keys that nobody read. Checks across tables and files come later and use the places of the values.
//!
//! Lines and columns count from 1, columns in characters. A line that holds a password is never shown. A file with a syntax
//! error in a line of its own is read without that line, so that its other errors are seen too; findings about what is
//! missing are then held back.

pub mod codes;
mod diagnostic;
mod parse;
mod place;
mod reader;
mod render;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use parse::{Document, parse, read};
pub use place::{Place, Secret, Source, Spanned, is_secret, is_secret_of_auth};
pub use reader::Reader;
