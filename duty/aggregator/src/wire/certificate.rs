//! Certificates as they travel, in JSON.
//!
//! Mithril's code stops the program where a `phi_f` does not fit its fixed-point number (U8F24), already when two parameter sets are
//! compared or hashed. No certificate with such parameters leaves this module.

use mithril_common::crypto_helper::{ProtocolAggregateVerificationKeyForConcatenation, ProtocolMultiSignature};
use mithril_common::entities::{Certificate, ProtocolParameters};
use mithril_common::messages::CertificateMessage;

/// Why bytes are no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// They are no JSON, or not of a certificate.
    #[error("{0}")]
    Json(String),
    /// Keys or signatures in it are none.
    #[error("{0}")]
    Content(String),
    /// Its parameters make no lottery: k and m are 1 at least, k is at most m, and phi_f lies above 0 and at most at 1.
    #[error("its parameters make no lottery")]
    Lottery,
}

/// A certificate of its JSON.
///
/// # Errors
/// When it is none.
pub fn decode(bytes: &[u8]) -> Result<Certificate, Undecodable> {
    of_message(serde_json::from_slice(bytes).map_err(|error| Undecodable::Json(error.to_string()))?)
}

/// A certificate of its message.
///
/// # Errors
/// When it is none.
pub fn of_message(message: CertificateMessage) -> Result<Certificate, Undecodable> {
    if !is_lottery(&message.metadata.protocol_parameters) {
        return Err(Undecodable::Lottery);
    }
    // Keys and signatures of a concatenation travel as JSON. Their other form, bytes, is decoded by code that trusts lengths.
    let no_json = |error: mithril_common::StdError| Undecodable::Content(format!("{error:#}"));
    ProtocolAggregateVerificationKeyForConcatenation::from_json_hex(&message.aggregate_verification_key)
        .map_err(no_json)?;
    if !message.multi_signature.is_empty() {
        ProtocolMultiSignature::from_json_hex(&message.multi_signature).map_err(no_json)?;
    }
    Certificate::try_from(message).map_err(|error| Undecodable::Content(format!("{error:#}")))
}

/// Whether parameters make a lottery.
pub fn is_lottery(&ProtocolParameters { k, m, phi_f }: &ProtocolParameters) -> bool {
    k > 0 && k <= m && phi_f > 0.0 && phi_f <= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_would_stop_the_program_make_no_certificate() {
        for (k, m, phi_f, expected) in [
            (5, 100, 0.7, true),
            (1, 1, 1.0, true),
            (0, 1, 0.5, false),
            (2, 1, 0.5, false),
            (5, 100, 0.0, false),
            (5, 100, -0.1, false),
            (5, 100, 1.000_1, false),
            (5, 100, 32_769.0, false),
            (5, 100, f64::NAN, false),
            (5, 100, f64::INFINITY, false),
        ] {
            assert_eq!(is_lottery(&ProtocolParameters { k, m, phi_f }), expected, "{k} {m} {phi_f}");
        }
    }
}
