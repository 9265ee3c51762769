//! One archive: a tar of files, compressed with Zstandard. (Or with gzip, for clients of before 2026-08; spec §12.4.)
//!
//! Every file is hashed while it is read, so that the archive provably holds what was certified, and the compressed bytes are
//! hashed while they are written. After the sync the file is read back once, without the page cache where the system lets us,
//! and must give the same hash. That is a read of the compressed bytes, where the reference unpacks everything again.
//! A checksum of Zstandard's and gzip's own lets clients notice what happens later on the way.

use super::ArtifactError;
use semel_ops::shutdown::Stop;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Appended to the name while the archive is not whole.
pub(crate) const UNFINISHED: &str = ".tmp";

/// With what archives are compressed: `SNAPSHOT_COMPRESSION_ALGORITHM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// What clients of today take.
    #[default]
    Zstandard,
    /// What only clients of before 2026-08 take; those of today reject an artifact that names it, as a whole.
    Gzip,
}

impl Algorithm {
    /// Its name in an artifact.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Zstandard => "zstandard",
            Algorithm::Gzip => "gzip",
        }
    }

    /// End of the names of its archives.
    pub fn extension(self) -> &'static str {
        match self {
            Algorithm::Zstandard => "tar.zst",
            Algorithm::Gzip => "tar.gz",
        }
    }
}

/// How archives are compressed: `ZSTANDARD_PARAMETERS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// With what.
    pub algorithm: Algorithm,
    /// Zstandard's level; gzip has its own.
    pub level: i32,
    /// Threads; 0: no other than the caller's. gzip has one for each archive.
    pub workers: u32,
}

impl Default for Compression {
    fn default() -> Self {
        Self { algorithm: Algorithm::Zstandard, level: 9, workers: 4 }
    }
}

/// Compresses into a file.
enum Encoder {
    Zstandard(zstd::Encoder<'static, Tee<File>>),
    Gzip(flate2::write::GzEncoder<Tee<File>>),
}

impl Encoder {
    fn new(file: File, compression: Compression) -> io::Result<Encoder> {
        let tee = Tee::new(file);
        if compression.algorithm == Algorithm::Gzip {
            return Ok(Encoder::Gzip(flate2::write::GzEncoder::new(tee, flate2::Compression::default())));
        }
        let mut encoder = zstd::Encoder::new(tee, compression.level)?;
        encoder.include_checksum(true)?;
        if compression.workers > 0 {
            encoder.multithread(compression.workers)?;
        }
        Ok(Encoder::Zstandard(encoder))
    }

    fn finish(self) -> io::Result<Tee<File>> {
        match self {
            Encoder::Zstandard(encoder) => encoder.finish(),
            Encoder::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Zstandard(encoder) => encoder.write(buffer),
            Encoder::Gzip(encoder) => encoder.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Zstandard(encoder) => encoder.flush(),
            Encoder::Gzip(encoder) => encoder.flush(),
        }
    }
}

/// What an entry of an archive is made of.
#[derive(Debug)]
pub enum Content {
    /// A file, opened when its turn comes.
    Path(PathBuf),
    /// A file that is open already: it stays readable when the node deletes it. The path is for messages.
    Open(PathBuf, File),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// One entry of an archive.
#[derive(Debug)]
pub struct Source {
    /// Its path inside.
    pub name: String,
    /// What it holds.
    pub content: Content,
    /// SHA-256 that it must have.
    pub expected: Option<[u8; 32]>,
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of all entries, before compression.
    pub size: u64,
    /// Bytes of the archive.
    pub compressed: u64,
    /// SHA-256 of the archive.
    pub sha256: [u8; 32],
}

/// Bytes on their way, hashed and counted.
struct Tee<I> {
    inner: I,
    hasher: Sha256,
    bytes: u64,
}

impl<I> Tee<I> {
    fn new(inner: I) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
    }
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.note(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.note(buffer.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Ends a copy when the end has come.
struct Stoppable<'a, R>(R, &'a Stop);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not `Interrupted`: that one is tried again.
        if self.1.is_stopped() { Err(io::Error::other("stopped")) } else { self.0.read(buffer) }
    }
}

/// An archive under way.
pub(crate) struct Packer<'a> {
    target: PathBuf,
    unfinished: PathBuf,
    tar: tar::Builder<Encoder>,
    size: u64,
    stop: &'a Stop,
}

impl<'a> Packer<'a> {
    /// Begins an archive that will be at `target`.
    pub(crate) fn begin(target: &Path, compression: Compression, stop: &'a Stop) -> Result<Self, ArtifactError> {
        let mut name = target.as_os_str().to_owned();
        name.push(UNFINISHED);
        let unfinished = PathBuf::from(name);
        let failed = |why| ArtifactError::file(&unfinished, why);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished).map_err(failed)?;
        let encoder = Encoder::new(file, compression).map_err(failed)?;
        Ok(Self { target: target.to_path_buf(), unfinished, tar: tar::Builder::new(encoder), size: 0, stop })
    }

    /// Appends an entry; its SHA-256.
    pub(crate) fn append(&mut self, source: Source) -> Result<[u8; 32], ArtifactError> {
        let Source { name, content, expected } = source;
        let (path, digest) = match content {
            Content::Bytes(bytes) => {
                let path = PathBuf::from(&name);
                let length = bytes.len() as u64;
                (path.clone(), self.stream(&name, &path, bytes.as_slice(), length, 0)?)
            }
            Content::Path(path) => {
                let file = File::open(&path).map_err(|why| ArtifactError::file(&path, why))?;
                (path.clone(), self.append_file(&name, &path, &file)?)
            }
            Content::Open(path, file) => (path.clone(), self.append_file(&name, &path, &file)?),
        };
        if expected.is_some_and(|expected| expected != digest) {
            return Err(ArtifactError::NotCertified(path));
        }
        Ok(digest)
    }

    fn append_file(&mut self, name: &str, path: &Path, file: &File) -> Result<[u8; 32], ArtifactError> {
        let metadata = file.metadata().map_err(|why| ArtifactError::file(path, why))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.stream(name, path, file, metadata.len(), modified.map_or(0, |time| time.as_secs()))
    }

    /// Streams exactly `length` bytes: a file that grows is cut there, one that shrinks is an error.
    fn stream(
        &mut self,
        name: &str,
        path: &Path,
        content: impl Read,
        length: u64,
        modified: u64,
    ) -> Result<[u8; 32], ArtifactError> {
        let mut header = tar::Header::new_gnu();
        header.set_size(length);
        header.set_mode(0o644);
        header.set_mtime(modified);
        let mut content = Tee::new(Stoppable(BufReader::with_capacity(BUFFER_BYTES, content.take(length)), self.stop));
        self.tar.append_data(&mut header, name, &mut content).map_err(|why| self.failed(path, why))?;
        if content.bytes != length {
            return Err(ArtifactError::Changed(path.to_path_buf()));
        }
        self.size = self.size.saturating_add(length);
        Ok(content.hasher.finalize().into())
    }

    fn failed(&self, path: &Path, why: io::Error) -> ArtifactError {
        if self.stop.is_stopped() {
            return ArtifactError::Stopped;
        }
        match ArtifactError::file(path, why) {
            // It is not the source that is full.
            ArtifactError::DiskFull(_) => ArtifactError::DiskFull(self.target.clone()),
            other => other,
        }
    }

    /// Syncs, reads back and puts in place. The name is durable only after [`sync_directory`].
    pub(crate) fn finish(self) -> Result<Packed, ArtifactError> {
        let Self { target, unfinished, tar, size, .. } = self;
        let failed = |why| ArtifactError::file(&unfinished, why);
        let tee = tar.into_inner().and_then(Encoder::finish).map_err(failed)?;
        tee.inner.sync_data().map_err(failed)?;
        let packed = Packed { size, compressed: tee.bytes, sha256: tee.hasher.finalize().into() };
        let (compressed, sha256) = read_back(&unfinished).map_err(failed)?;
        if (compressed, sha256) != (packed.compressed, packed.sha256) {
            return Err(ArtifactError::ReadBack(unfinished));
        }
        fs::rename(&unfinished, &target).map_err(failed)?;
        Ok(packed)
    }
}

/// Writes an archive of `sources` at `target`, which is not there before it is whole. Its name is durable when the directory
/// has been synced.
///
/// # Errors
/// When a file cannot be read, is not what is expected, or the archive cannot be written. Nothing is left at `target` then.
pub fn pack(
    target: &Path,
    sources: Vec<Source>,
    compression: Compression,
    stop: &Stop,
) -> Result<Packed, ArtifactError> {
    or_clean(target, || {
        let mut packer = Packer::begin(target, compression, stop)?;
        for source in sources {
            packer.append(source)?;
        }
        packer.finish()
    })
}

/// Runs `make`; if it fails, what is unfinished of `target` is deleted, so that a full disk is less full.
pub(crate) fn or_clean<T>(target: &Path, make: impl FnOnce() -> Result<T, ArtifactError>) -> Result<T, ArtifactError> {
    make().inspect_err(|_| {
        let mut name = target.as_os_str().to_owned();
        name.push(UNFINISHED);
        // If it cannot be deleted, the next attempt writes over it.
        let _ = fs::remove_file(PathBuf::from(name));
    })
}

fn read_back(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let file = File::open(path)?;
    // A wish: without it the bytes come from memory and prove less.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    let mut tee = Tee::new(io::sink());
    io::copy(&mut BufReader::with_capacity(BUFFER_BYTES, file), &mut tee)?;
    Ok((tee.bytes, tee.hasher.finalize().into()))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), ArtifactError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|why| ArtifactError::file(directory, why))
}

/// Bytes of all entries of an archive of ours, before compression. Reads and checks the whole archive.
///
/// # Errors
/// When it is not a whole archive.
pub fn unpacked_size(path: &Path, algorithm: Algorithm, stop: &Stop) -> Result<u64, ArtifactError> {
    let failed = |why| if stop.is_stopped() { ArtifactError::Stopped } else { ArtifactError::file(path, why) };
    let file = File::open(path).map_err(failed)?;
    let decoder: Box<dyn Read> = match algorithm {
        Algorithm::Zstandard => Box::new(zstd::Decoder::new(file).map_err(failed)?),
        Algorithm::Gzip => Box::new(flate2::read::GzDecoder::new(BufReader::new(file))),
    };
    let mut decoder = Stoppable(decoder, stop);
    let mut size: u64 = 0;
    let mut archive = tar::Archive::new(&mut decoder);
    for entry in archive.entries().map_err(failed)? {
        size = size.saturating_add(entry.map_err(failed)?.size());
    }
    // The checksum is behind the last entry.
    io::copy(&mut decoder, &mut io::sink()).map_err(failed)?;
    Ok(size)
}
