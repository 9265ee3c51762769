//! Who tells the eras: fixed markers, a file, or signed outputs on the chain.

use super::chain::{ChainError, Observer};
use crate::core::era::{EraMarker, markers_of_datum, markers_of_json};
use mithril_common::crypto_helper::ed25519::Ed25519VerificationKey;
use mithril_common::entities::{Epoch, SupportedEra};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Longest file of markers, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Outputs at the address that are looked at. Anybody can add some: each costs its maker a deposit and us one short parse.
const OUTPUTS_MAX: usize = 10_000;

/// Where signed markers lie on the chain, and who signs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkersOnChain {
    /// Address of the outputs that carry them.
    pub address: String,
    /// Key that they are verified with.
    pub verification_key: Ed25519VerificationKey,
}

/// Who tells the eras.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EraReader {
    /// The first era, for ever.
    Bootstrap,
    /// The last era that this program knows, for ever.
    BootstrapLatest,
    /// These markers.
    Dummy(Vec<EraMarker>),
    /// The markers in this file: a JSON list.
    File(PathBuf),
    /// Signed markers on the chain.
    CardanoChain(MarkersOnChain),
}

/// Why the eras are not known.
#[derive(Debug, thiserror::Error)]
pub enum EraReadError {
    /// The chain did not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The file cannot be read.
    #[error("cannot read the era markers in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file has no markers.
    #[error("{} is no JSON list of era markers", .0.display())]
    NotMarkers(PathBuf),
    /// Nothing at the address carries markers with the right signature.
    #[error("none of the {outputs} outputs at {address} carries era markers that the key has signed")]
    NotOnChain {
        /// The address.
        address: String,
        /// Outputs with a datum that lie there.
        outputs: usize,
    },
}

impl EraReader {
    /// The markers as they are now.
    ///
    /// # Errors
    /// They cannot be read, or are not signed.
    pub fn read(&self, observer: &dyn Observer) -> Result<Vec<EraMarker>, EraReadError> {
        match self {
            Self::Bootstrap => Ok(forever(SupportedEra::eras().first())),
            Self::BootstrapLatest => Ok(forever(SupportedEra::eras().last())),
            Self::Dummy(markers) => Ok(markers.clone()),
            Self::File(path) => read_file(path),
            Self::CardanoChain(place) => {
                let datums = observer.datums(&place.address)?;
                let signed = datums.iter().take(OUTPUTS_MAX);
                signed
                    .into_iter()
                    .find_map(|datum| markers_of_datum(datum, &place.verification_key))
                    .ok_or_else(|| EraReadError::NotOnChain { address: place.address.clone(), outputs: datums.len() })
            }
        }
    }
}

fn forever(era: Option<&SupportedEra>) -> Vec<EraMarker> {
    era.map(|era| EraMarker::new(era.to_string(), Some(Epoch(0)))).into_iter().collect()
}

fn read_file(path: &Path) -> Result<Vec<EraMarker>, EraReadError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| EraReadError::File { path: path.to_owned(), source })?;
    markers_of_json(&text).ok_or_else(|| EraReadError::NotMarkers(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::era::{announce, with_message};
    use crate::core::markers::{datum_json, tests::cbor};
    use crate::host::chain::{Blocks, Place, View};
    use crate::host::keys;
    use mithril_common::entities::StakeDistribution;

    #[derive(Debug)]
    struct Outputs(Vec<Vec<u8>>);

    impl Observer for Outputs {
        fn view(&self) -> Result<View, ChainError> {
            Err(ChainError::Unsupported("a list of outputs"))
        }
        fn stakes(&self) -> Result<(View, StakeDistribution), ChainError> {
            Err(ChainError::Unsupported("a list of outputs"))
        }
        fn datums(&self, address: &str) -> Result<Vec<Vec<u8>>, ChainError> {
            assert_eq!(address, "addr_test1");
            Ok(self.0.clone())
        }
        fn blocks(&self, _: &[Place]) -> Result<Box<dyn Blocks>, ChainError> {
            Err(ChainError::Unsupported("a list of outputs"))
        }
    }

    #[test]
    fn the_first_output_with_the_right_signature_counts() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, epoch| {
            let public = keys::generate(directory.path(), name).unwrap();
            let key = keys::load(&directory.path().join(format!("{name}.sk"))).unwrap();
            let datum = with_message(&announce(Epoch(epoch), None).unwrap(), |message| {
                datum_json(&message.bytes(), &keys::sign(&key, message).unwrap().to_bytes_hex().unwrap())
            });
            (public, cbor(&datum.unwrap()))
        };
        let ((stranger, theirs), (ours, right)) = (write("stranger", 1), write("era", 7));
        let reader = |verification_key| {
            EraReader::CardanoChain(MarkersOnChain { address: "addr_test1".into(), verification_key })
        };
        let outputs = Outputs(vec![vec![0xff], theirs, right]);
        assert_eq!(reader(ours).read(&outputs).unwrap(), announce(Epoch(7), None).unwrap());
        assert_eq!(reader(stranger).read(&outputs).unwrap(), announce(Epoch(1), None).unwrap());
        let error = reader(ours).read(&Outputs(vec![vec![0xff]])).unwrap_err();
        assert!(error.to_string().contains("none of the 1 outputs"), "{error}");
    }

    #[test]
    fn fixed_markers_and_files_need_no_chain() {
        let nobody = Outputs(Vec::new());
        let names = |reader: EraReader| {
            reader.read(&nobody).map(|markers| markers.into_iter().map(|marker| marker.name).collect::<Vec<_>>())
        };
        assert_eq!(names(EraReader::Bootstrap).unwrap(), ["pythagoras"]);
        assert_eq!(names(EraReader::BootstrapLatest).unwrap(), ["lagrange"]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("markers.json");
        assert!(matches!(names(EraReader::File(path.clone())), Err(EraReadError::File { .. })));
        std::fs::write(&path, r#"[{"name":"pythagoras","epoch":3}]"#).unwrap();
        assert_eq!(names(EraReader::File(path.clone())).unwrap(), ["pythagoras"]);
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(names(EraReader::File(path)), Err(EraReadError::NotMarkers(_))));
    }
}
