//! The artifact of one beacon: ancillary, immutables, digests, in this order, then where each is.
//!
//! Spec: §4.4, §13 traps 19 and 22. `average_size_uncompressed` is that of numbers 1 to N, though archives begin at 0, and
//! `total_db_size_uncompressed` is ancillary plus numbers 1 to N: so does the reference, and clients show it.

use super::ancillary::{Ancillary, is_there};
use super::archive::{Algorithm, Compression, Content, Source, pack, sync_directory, unpacked_size};
use super::upload::{Layout, Part, UploadError, Uploader};
use super::{ArtifactError, ManifestSigner, NodeVersion};
use crate::host::immutable::{Digests, ImmutableError, ImmutableFiles, trio};
use mithril_common::entities::{
    AncillaryLocation, AncillaryLocations, CardanoDatabaseSnapshot, CardanoDatabaseSnapshotArtifactData,
    CardanoDbBeacon, CardanoNetwork, CompressionAlgorithm, DigestLocation, DigestsLocations, ImmutablesLocation,
    ImmutablesLocations, MultiFilesUri, TemplateUri,
};
use mithril_common::messages::CardanoDatabaseDigestListItemMessage;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use semel_ops::shutdown::Stop;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was just done. Told from several threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An archive is begun.
    Packing(Part, String),
    /// An archive is in place.
    Packed(Part, String),
    /// An archive was in place already.
    Kept(Part, String),
    /// A part is where this uploader brings it.
    Uploaded(Part, String),
    /// A part is not there, for this reason. Another uploader may do.
    NotUploaded(Part, String),
}

/// Makes artifacts of a node's database.
#[derive(Debug)]
pub struct DatabaseMaker {
    /// The node's database.
    pub db: PathBuf,
    /// Its network.
    pub network: CardanoNetwork,
    /// Version of the node, as configured.
    pub node_version: String,
    /// How archives are compressed.
    pub compression: Compression,
    /// Where archives are.
    pub layout: Layout,
    /// Signs the ancillary manifest.
    pub manifest: Arc<dyn ManifestSigner>,
    /// Where they are brought. At least one must work.
    pub uploaders: Vec<Arc<dyn Uploader>>,
    /// Address of our route with all digests: `<base>/artifact/cardano-database/digests`.
    pub digests_route: String,
}

/// One making.
struct Making<'a> {
    maker: &'a DatabaseMaker,
    beacon: &'a CardanoDbBeacon,
    files: ImmutableFiles,
    digests: BTreeMap<&'a str, [u8; 32]>,
    stop: &'a Stop,
    step: &'a (dyn Fn(Step) + Sync),
}

impl DatabaseMaker {
    /// Makes the artifact of `beacon`, whose certificate has the message part `certified_root`. `digests` are those of all
    /// files up to the beacon's number. What an earlier attempt put in place is kept.
    ///
    /// # Errors
    /// Any; trying again goes on where it stopped.
    pub fn make(
        &self,
        beacon: &CardanoDbBeacon,
        certified_root: &str,
        digests: &Digests,
        stop: &Stop,
        step: &(dyn Fn(Step) + Sync),
    ) -> Result<CardanoDatabaseSnapshot, ArtifactError> {
        let ours = digests.merkle_root()?;
        if ours != certified_root {
            return Err(ArtifactError::OtherRoot { ours, certified: certified_root.to_owned() });
        }
        let making = Making {
            maker: self,
            beacon,
            files: ImmutableFiles::list(&self.db)?,
            digests: digests.entries.iter().map(|(name, digest)| (name.as_str(), *digest)).collect(),
            stop,
            step,
        };
        making.run(ours, digests)
    }

    /// The artifact as it is kept and served. The types of the reference know no gzip any more, so with gzip this text, and not
    /// the structure, says what is in the archives.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn json(&self, artifact: &CardanoDatabaseSnapshot) -> Result<Value, ArtifactError> {
        let mut artifact = serde_json::to_value(artifact)?;
        if self.compression.algorithm != Algorithm::Zstandard {
            for part in ["digests", "immutables", "ancillary"] {
                let locations = artifact.get_mut(part).and_then(|part| part.get_mut("locations"));
                for location in locations.and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(algorithm) = location.get_mut("compression_algorithm") {
                        *algorithm = Value::from(self.compression.algorithm.name());
                    }
                }
            }
        }
        Ok(artifact)
    }
}

impl Making<'_> {
    fn run(&self, root: String, digests: &Digests) -> Result<CardanoDatabaseSnapshot, ArtifactError> {
        let maker = self.maker;
        let (ancillary, ancillary_archive) = self.ancillary()?;
        let (immutables, total) = self.immutables()?;
        let (digests, digests_archive) = self.digests(digests)?;
        let content = CardanoDatabaseSnapshotArtifactData {
            total_db_size_uncompressed: ancillary.size_uncompressed.saturating_add(total),
            digests,
            immutables,
            ancillary,
        };
        let version = maker.node_version.parse().map_err(|_| ArtifactError::NodeVersion(maker.node_version.clone()))?;
        let artifact = CardanoDatabaseSnapshot::new(root, maker.network, self.beacon.clone(), content, &version);
        if !maker.uploaders.iter().any(|uploader| uploader.serves_directory()) {
            for path in [ancillary_archive, digests_archive] {
                // They are elsewhere now, and nobody asks for them here.
                let _ = fs::remove_file(path);
            }
        }
        Ok(artifact)
    }

    /// `<network>-e<E>-i<N>`
    fn stem(&self) -> String {
        format!("{}-e{}-i{}", self.maker.network, *self.beacon.epoch, self.beacon.immutable_file_number)
    }

    fn extension(&self) -> &'static str {
        self.maker.compression.algorithm.extension()
    }

    fn path(&self, part: Part, name: &str) -> PathBuf {
        self.maker.layout.directory(part).join(name)
    }

    fn ancillary(&self) -> Result<(AncillaryLocations, PathBuf), ArtifactError> {
        let maker = self.maker;
        let name = format!("{}.ancillary.{}", self.stem(), self.extension());
        let archive = self.path(Part::Ancillary, &name);
        let size_uncompressed = if is_there(&archive) {
            (self.step)(Step::Kept(Part::Ancillary, name.clone()));
            unpacked_size(&archive, maker.compression.algorithm, self.stop)?
        } else {
            (self.step)(Step::Packing(Part::Ancillary, name.clone()));
            let content = Ancillary {
                db: &maker.db,
                immutable: self.files.directory(),
                growing: self.beacon.immutable_file_number.saturating_add(1),
                version: NodeVersion::parse(&maker.node_version)?,
                aside: &maker.layout.pending().join(self.stem()),
                signer: maker.manifest.as_ref(),
            };
            let size = content.pack(&archive, maker.compression, self.stop)?;
            (self.step)(Step::Packed(Part::Ancillary, name.clone()));
            size
        };
        let uris = self.upload(Part::Ancillary, std::slice::from_ref(&archive), &name)?;
        let locations = uris
            .into_iter()
            .map(|uri| AncillaryLocation::CloudStorage {
                uri,
                compression_algorithm: Some(CompressionAlgorithm::Zstandard),
            })
            .collect();
        Ok((AncillaryLocations { size_uncompressed, locations }, archive))
    }

    /// Locations, and bytes of numbers 1 to N.
    fn immutables(&self) -> Result<(ImmutablesLocations, u64), ArtifactError> {
        let last = self.beacon.immutable_file_number;
        self.files.complete_up_to(last)?;
        let archives: Vec<(u64, PathBuf)> = (0..=last)
            .map(|number| (number, self.path(Part::Immutable, &format!("{number:05}.{}", self.extension()))))
            .collect();
        let missing: Vec<&(u64, PathBuf)> = archives.iter().filter(|(_, archive)| !is_there(archive)).collect();
        self.pack_immutables(&missing)?;
        let mut total: u64 = 0;
        for number in 1..=last {
            for name in trio(number) {
                let path = self.files.directory().join(name);
                let metadata = fs::metadata(&path).map_err(|why| ArtifactError::file(&path, why))?;
                total = total.saturating_add(metadata.len());
            }
        }
        let archives: Vec<PathBuf> = archives.into_iter().map(|(_, archive)| archive).collect();
        let uris =
            self.upload(Part::Immutable, &archives, &format!("{{immutable_file_number}}.{}", self.extension()))?;
        let locations = uris
            .into_iter()
            .map(|uri| ImmutablesLocation::CloudStorage {
                uri: MultiFilesUri::Template(TemplateUri(uri)),
                compression_algorithm: Some(CompressionAlgorithm::Zstandard),
            })
            .collect();
        let average_size_uncompressed = total.checked_div(last).unwrap_or(0);
        Ok((ImmutablesLocations { average_size_uncompressed, locations }, total))
    }

    /// Several archives at a time, each in one thread: a trio is too small for Zstandard to share out. There are more threads
    /// than cores, because each waits for the disk at the end of its archive.
    fn pack_immutables(&self, missing: &[&(u64, PathBuf)]) -> Result<(), ArtifactError> {
        let workers = self.maker.compression.workers;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = usize::try_from(workers).unwrap_or(cores).clamp(1, cores.saturating_mul(2));
        let single = Compression { workers: if missing.len() > 1 { 0 } else { workers }, ..self.maker.compression };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|_| "archive".to_owned())
            .build()
            .map_err(|why| ArtifactError::Threads(why.to_string()))?;
        pool.install(|| {
            missing.into_par_iter().try_for_each(|(number, archive)| self.pack_immutable(*number, archive, single))
        })
    }

    fn pack_immutable(&self, number: u64, archive: &Path, compression: Compression) -> Result<(), ArtifactError> {
        if self.stop.is_stopped() {
            return Err(ArtifactError::Stopped);
        }
        let mut sources = Vec::with_capacity(3);
        for name in trio(number) {
            let path = self.files.directory().join(&name);
            let expected = self.digests.get(name.as_str()).ok_or_else(|| ImmutableError::Missing(path.clone()))?;
            let name = format!("immutable/{name}");
            sources.push(Source { name, content: Content::Path(path), expected: Some(*expected) });
        }
        let name = format!("{number:05}.{}", self.extension());
        (self.step)(Step::Packing(Part::Immutable, name.clone()));
        pack(archive, sources, compression, self.stop)?;
        (self.step)(Step::Packed(Part::Immutable, name));
        Ok(())
    }

    fn digests(&self, digests: &Digests) -> Result<(DigestsLocations, PathBuf), ArtifactError> {
        let list: Vec<CardanoDatabaseDigestListItemMessage> = digests
            .entries
            .iter()
            .map(|(name, digest)| CardanoDatabaseDigestListItemMessage {
                immutable_file_name: name.clone(),
                digest: hex::encode(digest),
            })
            .collect();
        let list = serde_json::to_vec(&list)?;
        let size_uncompressed = list.len() as u64;
        let (stem, name) = (self.stem(), format!("{}.digests.{}", self.stem(), self.extension()));
        let archive = self.path(Part::Digests, &name);
        if is_there(&archive) {
            (self.step)(Step::Kept(Part::Digests, name.clone()));
        } else {
            (self.step)(Step::Packing(Part::Digests, name.clone()));
            let inside = format!("{stem}.digests.json");
            let sources = vec![Source { name: inside, content: Content::Bytes(list), expected: None }];
            pack(&archive, sources, self.maker.compression, self.stop)?;
            (self.step)(Step::Packed(Part::Digests, name.clone()));
        }
        let uris = self.upload(Part::Digests, std::slice::from_ref(&archive), &name)?;
        let mut locations: Vec<DigestLocation> = uris
            .into_iter()
            .map(|uri| DigestLocation::CloudStorage {
                uri,
                compression_algorithm: Some(CompressionAlgorithm::Zstandard),
            })
            .collect();
        locations.push(DigestLocation::Aggregator { uri: self.maker.digests_route.clone() });
        Ok((DigestsLocations { size_uncompressed, locations }, archive))
    }

    /// Addresses at the uploaders that took it: one suffices. Nobody is told of a name that is not durable.
    fn upload(&self, part: Part, files: &[PathBuf], name: &str) -> Result<Vec<String>, ArtifactError> {
        sync_directory(&self.maker.layout.directory(part))?;
        let (mut uris, mut refused) = (Vec::new(), Vec::new());
        for uploader in &self.maker.uploaders {
            match uploader.upload(part, files, self.stop) {
                Ok(()) => {
                    (self.step)(Step::Uploaded(part, uploader.name()));
                    uris.push(uploader.uri(part, name));
                }
                Err(UploadError::Stopped) => return Err(ArtifactError::Stopped),
                Err(why) => {
                    let text = format!("{}: {why}", uploader.name());
                    (self.step)(Step::NotUploaded(part, text.clone()));
                    refused.push(text);
                }
            }
        }
        if uris.is_empty() { Err(ArtifactError::Upload(refused.join("; "))) } else { Ok(uris) }
    }
}
