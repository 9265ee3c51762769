//! A witness in memory: how far the journal had come when the process crashed.
//!
//! In `reserve` mode admissions are handed to the kernel without waiting for the medium. They survive the end of the process, but
//! not that of the machine, and not a write-back that failed later. The witness is a small file on a tmpfs, gone after
//! a reboot, that names the last record. If it is there, of this boot, and the journal still holds that record, nothing
//! is missing and the exact floor counts; in any other case the reserved bound does.
//!
//! Layout: boot id (16), sequence (8, little-endian), record hash (16), CRC-32C (4).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LEN: usize = 44;

/// The witness of one volume.
pub(crate) struct Witness {
    file: File,
    boot: [u8; 16],
}

/// What the witness of an earlier process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Testimony {
    pub(crate) sequence: u64,
    pub(crate) hash: [u8; 16],
}

impl Witness {
    /// Opens the witness named `name` in `dir`, and hears what it has to say. None where there is no tmpfs, no boot id, or
    /// the file is not ours: then there is no witness and every crash counts as a loss of power.
    pub(crate) fn open(dir: &Path, name: &str) -> Option<(Self, Option<Testimony>)> {
        let boot = boot_id()?;
        if !rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type as u64 == super::host::TMPFS) {
            return None;
        }
        let path: PathBuf = dir.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path).ok()?;
        let meta = file.metadata().ok()?;
        let is_ours = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0;
        let witness = is_ours.then_some(Self { file, boot })?;
        let testimony = witness.hear();
        Some((witness, testimony))
    }

    fn hear(&self) -> Option<Testimony> {
        let mut bytes = [0; LEN];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (body, crc) = bytes.split_at_checked(LEN - 4)?;
        let (boot, rest) = body.split_first_chunk::<16>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (hash, _) = rest.split_first_chunk::<16>()?;
        (crc32c::crc32c(body).to_le_bytes() == *crc && *boot == self.boot)
            .then_some(Testimony { sequence: u64::from_le_bytes(*sequence), hash: *hash })
    }

    /// Names the last record. False: it could not be written, and must not be relied on.
    pub(crate) fn tell(&self, sequence: u64, hash: [u8; 16]) -> bool {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&self.boot);
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&hash);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&bytes, 0).is_ok()
    }
}

/// Identity of this boot of the kernel.
fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    hex::decode(text.trim().replace('-', "")).ok()?.try_into().ok()
}
