//! How a backup is closed and opened: age, for recipients or with a passphrase.

use super::archive::BACKUP_MAX;
use crate::read_bounded;
use age::secrecy::SecretString;
use clap::Args;
use semel_ops::error::{Exit, Report};
use semel_ops::shell::Shell;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest passphrase or identity file, in bytes.
const SECRET_FILE_MAX: u64 = 16 * 1024;

/// Work of scrypt for a new backup, as a power of two: 256 MiB for about a second.
const WORK_FACTOR: u8 = 18;

/// Most work that a file may ask for: 1 GiB.
const WORK_FACTOR_MAX: u8 = 20;

/// First letters of an age identity.
const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-1";

/// Who can open it.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Closing {
    /// File with the passphrase, one line
    #[arg(long, value_name = "FILE", conflicts_with = "recipient")]
    passphrase_file: Option<PathBuf>,
    /// Whoever has the identity of this age recipient (age1…); may be repeated
    #[arg(long, value_name = "AGE1…")]
    recipient: Vec<String>,
}

/// What opens it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Opening {
    /// File with the passphrase, one line
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// File with the age identity (AGE-SECRET-KEY-1…), as age-keygen makes it
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

fn unusable(path: &Path, why: &str, hint: &str) -> Report {
    Report::new(format!("{} cannot be used", path.display())).because(why).code_id("BACKUP-0005").hint(hint)
}

fn secret_file(path: &Path, shell: &Shell) -> Result<Zeroizing<String>, Report> {
    let bytes = Zeroizing::new(read_bounded(path, SECRET_FILE_MAX).map_err(|report| report.code_id("BACKUP-0005"))?);
    if let Some(mode) = std::fs::metadata(path).ok().map(|meta| meta.mode() & 0o7777).filter(|mode| mode & 0o077 != 0) {
        shell.warning(format!("{}: mode {mode:04o} lets others reach it; it should be 0600", path.display()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable(path, "it is no text", "name the right file"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn passphrase(path: &Path, shell: &Shell) -> Result<SecretString, Report> {
    let text = secret_file(path, shell)?;
    let words = text.trim_end_matches(['\r', '\n']);
    if words.trim().is_empty() || words.contains('\n') {
        return Err(unusable(path, "it does not have exactly one line", "a passphrase is one line"));
    }
    Ok(SecretString::from(words.to_owned()))
}

impl Closing {
    /// Closes `plain`.
    pub(super) fn close(&self, plain: &[u8], shell: &Shell) -> Result<Vec<u8>, Report> {
        let failed = |why: String| Report::new("the backup was not encrypted").because(why).code_id("BACKUP-0006");
        let mut to: Vec<Box<dyn age::Recipient>> = Vec::new();
        for text in &self.recipient {
            let recipient: age::x25519::Recipient = text.parse().map_err(|why: &'static str| {
                let report = Report::new(format!("{text} is no age recipient")).because(why).code_id("BACKUP-0005");
                report.hint("it begins with age1: `age-keygen -y FILE` prints that of an identity").exit(Exit::Misuse)
            })?;
            to.push(Box::new(recipient));
        }
        if let Some(path) = &self.passphrase_file {
            let mut recipient = age::scrypt::Recipient::new(passphrase(path, shell)?);
            recipient.set_work_factor(WORK_FACTOR);
            to.push(Box::new(recipient));
        }
        let to = to.iter().map(|recipient| recipient.as_ref() as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(to).map_err(|error| failed(error.to_string()))?;
        let mut closed = Vec::new();
        let written = encryptor.wrap_output(&mut closed).and_then(|mut writer| {
            writer.write_all(plain)?;
            writer.finish().map(drop)
        });
        written.map_err(|error| failed(error.to_string()))?;
        Ok(closed)
    }
}

impl Opening {
    fn identities(&self, shell: &Shell) -> Result<Vec<Box<dyn age::Identity>>, Report> {
        let mut with: Vec<Box<dyn age::Identity>> = Vec::new();
        if let Some(path) = &self.identity {
            let text = secret_file(path, shell)?;
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with(IDENTITY_PREFIX));
            for identity in lines.filter_map(|line| line.parse::<age::x25519::Identity>().ok()) {
                with.push(Box::new(identity));
            }
            if with.is_empty() {
                return Err(unusable(path, "it holds no age identity", "name the file that `age-keygen` made"));
            }
        }
        if let Some(path) = &self.passphrase_file {
            let mut identity = age::scrypt::Identity::new(passphrase(path, shell)?);
            identity.set_max_work_factor(WORK_FACTOR_MAX);
            with.push(Box::new(identity));
        }
        Ok(with)
    }

    /// Opens a file.
    pub(super) fn open(&self, path: &Path, shell: &Shell) -> Result<Zeroizing<Vec<u8>>, Report> {
        let with = self.identities(shell)?;
        let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
        if size > BACKUP_MAX {
            return Err(Report::new(format!("{} has {size} bytes, a backup has at most {BACKUP_MAX}", path.display()))
                .code_id("BACKUP-0007")
                .hint("name the file that `backup create` made"));
        }
        let closed = read_bounded(path, BACKUP_MAX).map_err(|report| report.code_id("BACKUP-0008"))?;
        let decryptor = age::Decryptor::new(closed.as_slice()).map_err(|error| {
            let report = Report::new(format!("{} is no backup", path.display())).because(error.to_string());
            report.code_id("BACKUP-0002").hint("name the file that `backup create` made")
        })?;
        let cannot = |why: String| {
            let report = Report::new(format!("{} does not open", path.display())).because(why).code_id("BACKUP-0001");
            report.hint(
                "name the passphrase or identity that it was made for; if it is the right one, the file is damaged",
            )
        };
        let with = with.iter().map(|identity| identity.as_ref() as &dyn age::Identity);
        let reader = decryptor.decrypt(with).map_err(|error| cannot(error.to_string()))?;
        let mut plain = Zeroizing::new(Vec::with_capacity(closed.len()));
        reader.take(BACKUP_MAX).read_to_end(&mut plain).map_err(|error| cannot(error.to_string()))?;
        Ok(plain)
    }
}
