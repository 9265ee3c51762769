//! Beginnings that set a message apart from everything that consensus signs.

use std::fmt;

/// Shortest domain, in bytes.
pub const DOMAIN_MIN: usize = 4;

/// Longest domain, in bytes.
pub const DOMAIN_MAX: usize = 64;

/// A text that is no domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Too short to tell anything apart, or too long.
    #[error("it has {0} bytes, and {DOMAIN_MIN} to {DOMAIN_MAX} are needed")]
    Length(usize),
    /// The first character could begin a message of JSON.
    #[error("it begins with {0:?} instead of a letter or a digit")]
    First(char),
    /// Bytes that can stand in the tags of a canonical message.
    #[error("{0:?} is no printable ASCII character")]
    Character(char),
}

/// A beginning with which no vote, proposal or vote extension begins, in any encoding:
/// [`DOMAIN_MIN`] to [`DOMAIN_MAX`] printable ASCII characters, the first a letter or a digit.
///
/// A canonical message is its length and then the tag of its first field: 08 for a vote and a proposal, 0A, 11, 19 or 22 for
/// an extension. A length below 128 is one byte, so that this tag is the second byte; a longer length has a first byte of 80 or
/// more, which is no ASCII. 08, 0A, 11 and 19 are no printable characters. 22 is one, but with it the height would be zero, and
/// nothing is signed at height zero. Before lengths and tags, votes were JSON, and began with a brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(Box<str>);

impl Domain {
    /// Checks the text.
    ///
    /// # Errors
    /// What keeps it from being a domain.
    pub fn new(text: &str) -> Result<Self, DomainError> {
        if let Some(strange) = text.chars().find(|c| !matches!(c, ' '..='~')) {
            return Err(DomainError::Character(strange));
        }
        match text.chars().next() {
            _ if !(DOMAIN_MIN..=DOMAIN_MAX).contains(&text.len()) => Err(DomainError::Length(text.len())),
            Some(first) if !first.is_ascii_alphanumeric() => Err(DomainError::First(first)),
            _ => Ok(Self(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the domain in a message that begins with it.
    pub fn rest_of<'a>(&self, message: &'a [u8]) -> Option<&'a [u8]> {
        message.strip_prefix(self.0.as_bytes())
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Domain, DomainError};

    #[test]
    fn a_domain_is_printable_and_neither_short_nor_long() {
        for good in ["TEST", "COMET::RAW_BYTES::SIGN", "app.v1 ", "0x00", &"a".repeat(64)] {
            assert_eq!(Domain::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", DomainError::Length(0)),
            ("abc", DomainError::Length(3)),
            (&"a".repeat(65), DomainError::Length(65)),
            ("{\"@chain_id", DomainError::First('{')),
            ("\"abc", DomainError::First('"')),
            (" abc", DomainError::First(' ')),
            ("A\u{8}bc", DomainError::Character('\u{8}')),
            ("abcd\n", DomainError::Character('\n')),
            ("abcdé", DomainError::Character('é')),
            ("\u{7f}abcd", DomainError::Character('\u{7f}')),
        ] {
            assert_eq!(Domain::new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn the_rest_is_what_follows() {
        let domain = Domain::new("TEST").unwrap();
        assert_eq!(domain.rest_of(b"TEST"), Some(b"".as_slice()));
        assert_eq!(domain.rest_of(b"TESTx"), Some(b"x".as_slice()));
        assert_eq!(domain.rest_of(b"TES"), None);
        assert_eq!(domain.rest_of(b"test"), None);
    }
}
