//! The whole of Mithril in one process: every type is certified, epoch after epoch, and clients accept it.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use semel_aggregator::host::artifact::{ManifestSigner, ManifestSigningError};
use semel_aggregator::host::store::certificates;
use semel_devnet_cardano::certified::{Certified, Conditions};
use semel_devnet_cardano::{CardanoNet, Options};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug)]
struct Manifest(SigningKey, VerifyingKey);

impl ManifestSigner for Manifest {
    fn verification_key(&self) -> &VerifyingKey {
        &self.1
    }
    fn sign(&self, files: &[(String, String)]) -> Result<[u8; 64], ManifestSigningError> {
        let mut hasher = Sha256::new();
        for (path, hash) in files {
            hasher.update(path);
            hasher.update(hash);
        }
        Ok(self.0.sign(&hasher.finalize()).to_bytes())
    }
}

fn manifest() -> Arc<dyn ManifestSigner> {
    let key = SigningKey::from_bytes(&[9; 32]);
    let public = key.verifying_key();
    Arc::new(Manifest(key, public))
}

#[test]
fn every_type_is_certified_over_epochs_on_real_preview_blocks() {
    let place = tempfile::tempdir().unwrap();
    let mut options = Options::new(place.path().join("node"));
    let preview = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/cardano/preview/immutable");
    options.immutable = preview.is_dir().then_some(preview);
    options.first_trios = 12;
    let net = CardanoNet::start(options).unwrap();
    let aggregator = Certified::start(&net, &Conditions::new(place.path().join("aggregator")), manifest()).unwrap();
    let mut signers = net.signers(aggregator.url()).unwrap();
    aggregator.begin(&net, &mut signers).unwrap();
    for _ in 0..3 {
        aggregator.certify(&mut signers).unwrap();
        net.advance_epoch().unwrap();
        aggregator.wait_epoch(&net).unwrap();
    }
    let count = aggregator.running().engine().store().read(certificates::count).unwrap();
    assert!(count > 15, "{count}");
}
