//! TLS, for those who have no proxy in front: off unless a certificate and its key are named.
//!
//! TLS 1.2 and 1.3 with ring. Both files are PEM and are looked at again and again: a renewed certificate serves new connections
//! some seconds after it is there, and old ones go on with theirs. Files that do not fit together (a renewal is half done) change
//! nothing; they are tried again when they change.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;

/// Bytes of a file of certificates or of a key. A chain of four has some 8 KB.
const FILE_MAX: u64 = 1 << 20;
/// Certificates in a chain.
const CHAIN_MAX: usize = 16;
/// Bits of a file's mode that let everybody read it.
const OTHERS_READ: u32 = 0o004;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path}: {why}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Certificate and key are not of each other, or of a kind that is not known.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The chain, PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key, PEM, not encrypted.
    pub key: PathBuf,
}

/// What tells that a file is another one than before.
type Stamp = [Option<(u64, u64, i64, i64)>; 2];

/// A certificate and its key, as they are on the disk.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    config: RwLock<Arc<ServerConfig>>,
    // Of the last attempt, whether it went well or not.
    stamp: Mutex<Stamp>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// When they cannot be read or do not fit together.
    pub fn open(files: Files) -> Result<Tls, TlsError> {
        let stamp = stamp(&files);
        let config = read(&files)?;
        Ok(Tls { files, config: RwLock::new(Arc::new(config)), stamp: Mutex::new(stamp) })
    }

    /// Reads both again if a file has changed since they were tried last. Whether there is a new certificate.
    ///
    /// # Errors
    /// When they cannot be used: the ones before stay.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let mut tried = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.files);
        if *tried == now {
            return Ok(false);
        }
        *tried = now;
        let config = Arc::new(read(&self.files)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(true)
    }

    /// For a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn stamp(files: &Files) -> Stamp {
    [&files.certificate, &files.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    })
}

fn read(files: &Files) -> Result<ServerConfig, TlsError> {
    let wrong =
        |path: &Path, why: &dyn std::fmt::Display| TlsError::Content { path: path.to_owned(), why: why.to_string() };
    let pem = bounded(&files.certificate)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&pem).take(CHAIN_MAX).collect();
    let chain = chain.map_err(|error| wrong(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, &"there is no certificate in it"));
    }
    let pem = zeroize::Zeroizing::new(bounded(&files.key)?);
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(&files.key, &error))?;
    if std::fs::metadata(&files.key).is_ok_and(|metadata| metadata.mode() & OTHERS_READ != 0) {
        tracing::warn!(path = %files.key.display(), "everybody on this host can read the key of the server");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn bounded(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
