//! Trust in one certificate, whatever names are in it and whoever issued it: for asking the server of this
//! configuration over TLS.
//!
//! The server has to show the first certificate of a PEM file, byte for byte, and to prove that it has its key. Nobody
//! else is trusted.

use crate::host::http::tls::TlsError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a file of certificates.
const FILE_MAX: u64 = 1 << 20;

/// A client's side of TLS that trusts the first certificate in a PEM file.
///
/// # Errors
/// When there is no certificate in it, or it cannot be read.
pub fn only(certificate: &Path) -> Result<ClientConfig, TlsError> {
    let unreadable = |source| TlsError::File { path: certificate.to_owned(), source };
    let mut pem = Vec::new();
    std::fs::File::open(certificate).and_then(|file| file.take(FILE_MAX).read_to_end(&mut pem)).map_err(unreadable)?;
    let expected = CertificateDer::from_pem_slice(&pem)
        .map_err(|error| TlsError::Content { path: certificate.to_owned(), why: error.to_string() })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = Arc::new(Pinned { expected, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.dangerous().with_custom_certificate_verifier(pinned).with_no_client_auth())
}

#[derive(Debug)]
struct Pinned {
    expected: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *shown == self.expected {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
