//! The ancillary archive: what lets a node start at once and no signer vouches for.
//!
//! Spec: §4.4, §13 trap 20. Entries: the trio after the beacon, which the node still writes into, the newest ledger snapshot,
//! and last `ancillary_manifest.json` = `{"data": {path: SHA-256 in hexadecimal, …}, "signature": hexadecimal}`, signed by
//! Ed25519 over the 32 bytes SHA-256(Σ path ‖ hash), in the order of the paths. The trio is copied aside first, so that its
//! three files belong to one moment; the ledger's files are opened first, so that they outlive the node's next snapshot. Hashes
//! are taken of the very bytes that go into the archive.

use super::archive::{Compression, Content, Packer, Source, or_clean};
use super::{ArtifactError, LedgerSnapshot, NodeVersion};
use crate::host::immutable::{ImmutableError, trio};
use ed25519_dalek::{Signature, VerifyingKey};
use semel_guard::{Benign, Key};
use semel_ops::shutdown::Stop;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the manifest inside the archive.
pub const MANIFEST_NAME: &str = "ancillary_manifest.json";

/// Why a manifest has no signature.
#[derive(Debug, thiserror::Error)]
#[error("the ancillary manifest cannot be signed: {0}")]
pub struct ManifestSigningError(pub String);

/// Whoever holds the key of the ancillary manifest.
pub trait ManifestSigner: fmt::Debug + Send + Sync {
    /// The key that clients check with.
    fn verification_key(&self) -> &VerifyingKey;

    /// Ed25519 over SHA-256(Σ path ‖ hexadecimal) of these paths and hashes, which are in the order of the paths' parts.
    ///
    /// # Errors
    /// When the key does not answer.
    fn sign(&self, files: &[(&str, [u8; 32])]) -> Result<[u8; 64], ManifestSigningError>;
}

/// A key behind the guard.
#[derive(Debug)]
pub struct ManifestKey {
    key: Key,
    public: VerifyingKey,
}

impl ManifestKey {
    /// Signs manifests with this key.
    ///
    /// # Errors
    /// When it is no key of Ed25519.
    pub fn new(key: Key) -> Result<ManifestKey, ManifestSigningError> {
        let bytes = <[u8; 32]>::try_from(key.public_key().as_bytes()).ok();
        let public = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        let public = public.ok_or_else(|| ManifestSigningError("its key is not one of Ed25519".to_owned()))?;
        Ok(ManifestKey { key, public })
    }
}

impl ManifestSigner for ManifestKey {
    fn verification_key(&self) -> &VerifyingKey {
        &self.public
    }

    fn sign(&self, files: &[(&str, [u8; 32])]) -> Result<[u8; 64], ManifestSigningError> {
        let signature = self.key.sign_benign(&Benign::AncillaryManifest(files));
        let signature = signature.map_err(|error| ManifestSigningError(error.to_string()))?;
        signature.as_bytes().try_into().map_err(|_| ManifestSigningError("its signature has another length".to_owned()))
    }
}

/// What goes into an ancillary archive.
pub(crate) struct Ancillary<'a> {
    /// The node's database.
    pub(crate) db: &'a Path,
    /// Its immutable directory.
    pub(crate) immutable: &'a Path,
    /// Number after the beacon's.
    pub(crate) growing: u64,
    /// Version of the node.
    pub(crate) version: NodeVersion,
    /// A directory of ours, for copies. It is deleted afterwards.
    pub(crate) aside: &'a Path,
    /// Signs the manifest.
    pub(crate) signer: &'a dyn ManifestSigner,
}

impl Ancillary<'_> {
    /// Makes the archive; bytes of its entries.
    pub(crate) fn pack(&self, target: &Path, compression: Compression, stop: &Stop) -> Result<u64, ArtifactError> {
        let packed = or_clean(target, || {
            let ledger = LedgerSnapshot::open_newest(self.db, self.version)?;
            let copies = self.copy_aside()?;
            let mut packer = Packer::begin(target, compression, stop)?;
            let mut hashes = BTreeMap::new();
            let copies = copies.into_iter().map(|(name, path)| (name, Content::Path(path)));
            let ledger = ledger.into_iter().map(|(name, file)| (name.clone(), Content::Open(self.db.join(name), file)));
            for (name, content) in copies.chain(ledger) {
                let inside = name.display().to_string();
                let digest = packer.append(Source { name: inside, content, expected: None })?;
                hashes.insert(name, digest);
            }
            let manifest = Content::Bytes(self.manifest(&hashes)?);
            packer.append(Source { name: MANIFEST_NAME.to_owned(), content: manifest, expected: None })?;
            packer.finish()
        });
        // What cannot be deleted now is deleted at the next start.
        let _ = fs::remove_dir_all(self.aside);
        Ok(packed?.size)
    }

    fn copy_aside(&self) -> Result<Vec<(PathBuf, PathBuf)>, ArtifactError> {
        // What an end left behind.
        match fs::remove_dir_all(self.aside) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(ArtifactError::file(self.aside, why)),
            _ => fs::create_dir_all(self.aside).map_err(|why| ArtifactError::file(self.aside, why))?,
        }
        let mut copies = Vec::new();
        for name in trio(self.growing) {
            let (from, to) = (self.immutable.join(&name), self.aside.join(&name));
            match fs::copy(&from, &to) {
                Ok(_) => copies.push((Path::new("immutable").join(&name), to)),
                Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(ImmutableError::Missing(from).into()),
                Err(why) => return Err(ArtifactError::file(&to, why)),
            }
        }
        Ok(copies)
    }

    // The order is that of the paths, part by part, as the client has it.
    fn manifest(&self, hashes: &BTreeMap<PathBuf, [u8; 32]>) -> Result<Vec<u8>, ArtifactError> {
        let files: Vec<(String, [u8; 32])> =
            hashes.iter().map(|(path, hash)| (path.display().to_string(), *hash)).collect();
        let files: Vec<(&str, [u8; 32])> = files.iter().map(|(path, hash)| (path.as_str(), *hash)).collect();
        let signature = self.signer.sign(&files)?;
        // A wrong key would be noticed by every client and by nobody here.
        self.signer
            .verification_key()
            .verify_strict(&manifest_hash(&files), &Signature::from_bytes(&signature))
            .map_err(|_| ManifestSigningError("the signature is not of the configured key".to_owned()))?;
        let data: Map<String, Value> =
            files.iter().map(|(path, hash)| ((*path).to_owned(), Value::String(hex::encode(hash)))).collect();
        Ok(serde_json::to_vec(&serde_json::json!({ "data": data, "signature": hex::encode(signature) }))?)
    }
}

/// What is signed.
fn manifest_hash(files: &[(&str, [u8; 32])]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (path, hash) in files {
        hasher.update(path);
        hasher.update(hex::encode(hash));
    }
    hasher.finalize().into()
}

/// Whether `path` is a file that can be opened.
pub(crate) fn is_there(path: &Path) -> bool {
    File::open(path).is_ok()
}
