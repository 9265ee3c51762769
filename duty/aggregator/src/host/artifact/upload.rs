//! Where archives are, and where clients find them.
//!
//! Spec: §1.3 (`SNAPSHOT_DIRECTORY`, `SNAPSHOT_UPLOADER_TYPE`), §2 (`/cardano-database-download`), §4.4.

use super::ArtifactError;
use super::archive::UNFINISHED;
use semel_ops::shutdown::Stop;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A part of the artifact; its name is a directory here and a prefix in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The growing trio and the ledger.
    Ancillary,
    /// One archive per complete number.
    Immutable,
    /// The list of all digests.
    Digests,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Ancillary, Part::Immutable, Part::Digests];

    /// Its name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Part::Ancillary => "ancillary",
            Part::Immutable => "immutable",
            Part::Digests => "digests",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The snapshot directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Below `root`; nothing is made there yet.
    pub fn at(root: &Path) -> Layout {
        Layout { root: root.to_path_buf() }
    }

    /// Makes the directories below `root` and deletes what an end left behind: `pending_snapshot/` and unfinished archives.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(root: &Path) -> Result<Layout, ArtifactError> {
        let layout = Layout::at(root);
        let pending = layout.pending();
        match fs::remove_dir_all(&pending) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(ArtifactError::file(&pending, why)),
            _ => {}
        }
        for part in Part::ALL {
            let directory = layout.directory(part);
            let failed = |why| ArtifactError::file(&directory, why);
            fs::create_dir_all(&directory).map_err(failed)?;
            for entry in fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
                    fs::remove_file(entry.path()).map_err(failed)?;
                }
            }
        }
        Ok(layout)
    }

    /// Where a part's archives are; the download route serves these directories.
    pub fn directory(&self, part: Part) -> PathBuf {
        self.root.join("cardano-database").join(part.name())
    }

    /// Where copies are while they are needed.
    pub fn pending(&self) -> PathBuf {
        self.root.join("pending_snapshot")
    }
}

/// Why nothing was uploaded.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A setting is wrong: trying again does not help.
    #[error("{0}")]
    Setting(String),
    /// The other side did not take it, several times.
    #[error("{name}: {why} (tried {attempts} times)")]
    Refused {
        /// What was uploaded.
        name: String,
        /// What was said last.
        why: String,
        /// How often.
        attempts: u32,
    },
    /// The file cannot be read.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        #[source]
        why: io::Error,
    },
    /// Somebody asked for the end.
    #[error("stopped")]
    Stopped,
}

/// A place from which clients download.
pub trait Uploader: fmt::Debug + Send + Sync {
    /// Its name in messages.
    fn name(&self) -> String;

    /// Where a client finds the file of this name.
    fn uri(&self, part: Part, file_name: &str) -> String;

    /// Brings these files there. Those of [`Part::Immutable`] never change: what is there already is not sent again.
    ///
    /// # Errors
    /// When one of them is not there afterwards.
    fn upload(&self, part: Part, files: &[PathBuf], stop: &Stop) -> Result<(), UploadError>;

    /// Whether clients are served from the directory itself, so that the files must stay.
    fn serves_directory(&self) -> bool;
}

/// Clients download from this aggregator: nothing has to be moved.
#[derive(Debug, Clone)]
pub struct LocalUploader {
    base: String,
}

impl LocalUploader {
    /// With the public address of this aggregator, with or without a slash at its end: `https://example.com/aggregator`.
    pub fn new(public_url: &str) -> LocalUploader {
        LocalUploader { base: format!("{}/cardano-database-download", public_url.trim_end_matches('/')) }
    }
}

impl Uploader for LocalUploader {
    fn name(&self) -> String {
        "local".to_owned()
    }

    fn uri(&self, part: Part, file_name: &str) -> String {
        format!("{}/{part}/{file_name}", self.base)
    }

    fn upload(&self, _: Part, files: &[PathBuf], _: &Stop) -> Result<(), UploadError> {
        for path in files {
            fs::metadata(path).map_err(|why| UploadError::File { path: path.clone(), why })?;
        }
        Ok(())
    }

    fn serves_directory(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_those_of_the_download_route() {
        for base in ["http://localhost:8080/aggregator", "http://localhost:8080/aggregator/"] {
            let uploader = LocalUploader::new(base);
            assert_eq!(
                uploader.uri(Part::Immutable, "{immutable_file_number}.tar.zst"),
                "http://localhost:8080/aggregator/cardano-database-download/immutable/{immutable_file_number}.tar.zst"
            );
        }
    }

    #[test]
    fn opening_the_directory_again_deletes_what_is_unfinished_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::open(root.path()).unwrap();
        fs::create_dir_all(layout.pending().join("x")).unwrap();
        let immutable = layout.directory(Part::Immutable);
        fs::write(immutable.join("00000.tar.zst"), "whole").unwrap();
        fs::write(immutable.join("00001.tar.zst.tmp"), "half").unwrap();
        Layout::open(root.path()).unwrap();
        assert!(immutable.join("00000.tar.zst").exists());
        assert!(!immutable.join("00001.tar.zst.tmp").exists());
        assert!(!layout.pending().exists());
    }
}
