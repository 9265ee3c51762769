//! `backup`: one encrypted file with what a host needs to go on: the floors of its ledger, and configurations.
//!
//! Making one reads, and works beside a running signer. A restore raises floors and never lowers one, and what it raised may be old:
//! the signer may have signed on after the backup. So such a key watches a few heights before it signs.

mod archive;
mod crypt;

pub use archive::Role;
pub use crypt::{Closing, Opening};

use crate::floors::{How, Plan};
use crate::{Place, known, ledger_report, read_bounded, said, write_new};
use archive::{Archive, ArchiveError, BACKUP_MAX, FILE_MAX, FILES_MAX, KeyRecord, Stored};
use clap::Subcommand;
use semel_guard::{HoldCause, Ledger, Subject};
use semel_ledger::Known;
use semel_ops::clock::{rfc_3339, seconds};
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde_json::json;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What configurations say of a backup.
#[derive(Debug)]
pub struct Sources {
    /// Which files belong to them: they themselves and, where asked for, the secrets that they name.
    pub files: Vec<(PathBuf, Role)>,
    /// The ledger that they name; an error where they cannot be read.
    pub ledger: Result<Option<PathBuf>, Report>,
}

/// How a duty reads configurations, and whether the secrets that they name are asked for.
pub type SourcesOf = fn(&[PathBuf], bool) -> Result<Sources, Report>;

/// `backup`
#[derive(Debug, Subcommand)]
pub enum Backup {
    /// Make an encrypted file of the ledger's floors, and of configurations; a signer may run meanwhile
    Create {
        /// Which ledger
        #[command(flatten)]
        place: Place,
        /// Who can open it
        #[command(flatten)]
        closing: Closing,
        /// Take in this configuration, or the directory of them; may be repeated
        #[arg(short, long, value_name = "PATH")]
        config: Vec<PathBuf>,
        /// Take in the keys, identities, passwords and PINs that the configurations name as files
        #[arg(long, requires = "config")]
        with_keys: bool,
        /// Make it although there is no ledger, or none with a key: it protects nothing that was signed
        #[arg(long, requires = "config")]
        without_floors: bool,
        /// Show what would be in it
        #[arg(long)]
        dry_run: bool,
        /// File to make
        file: PathBuf,
    },
    /// Open a backup, check it, and show what is in it
    Verify {
        /// What opens it
        #[command(flatten)]
        opening: Opening,
        /// For machines
        #[arg(long)]
        json: bool,
        /// The file of `backup create`
        file: PathBuf,
    },
    /// Raise the ledger's floors to those of a backup, and put its files into a directory
    Restore {
        /// Which ledger
        #[command(flatten)]
        place: Place,
        /// What opens it
        #[command(flatten)]
        opening: Opening,
        /// Directory for the files; without it they stay in the backup
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// How
        #[command(flatten)]
        how: How,
        /// The file of `backup create`
        file: PathBuf,
    },
}

fn archive_report(path: &Path, error: &ArchiveError) -> Report {
    let hint = match error {
        ArchiveError::Version(_) => "use the version of this program that made it, or a newer one",
        _ => "nothing was restored; use another copy, or another backup",
    };
    Report::new(format!("{}: {error}", path.display())).code_id(error.code()).hint(hint)
}

fn cannot_make(path: &Path, error: &std::io::Error) -> Report {
    let report = Report::new(format!("cannot make {}", path.display())).cause(error).code_id("BACKUP-0006");
    report.hint("a file that is there already is never written over")
}

impl Backup {
    /// Runs the command.
    pub fn run(&self, sources_of: SourcesOf, shell: &Shell) -> Result<(), Report> {
        match self {
            Self::Create { place, closing, config, with_keys, without_floors, dry_run, file } => {
                let none = Sources { files: Vec::new(), ledger: Ok(None) };
                let sources = if config.is_empty() { none } else { sources_of(config, *with_keys)? };
                let directory = match &place.ledger {
                    Some(directory) => directory.clone(),
                    None => sources.ledger?.unwrap_or_else(|| place.directory()),
                };
                let known = floors_in(&directory, *without_floors)?;
                create(&directory, &known, closing, &sources.files, file, *dry_run, shell)
            }
            Self::Verify { opening, json, file } => verify(&load(file, opening, shell)?, *json, shell),
            Self::Restore { place, opening, output, how, file } => {
                let archive = load(file, opening, shell)?;
                restore_floors(&archive, place, how, shell)?;
                restore_files(&archive, file, output.as_deref(), how.dry_run, shell)
            }
        }
    }
}

fn load(path: &Path, opening: &Opening, shell: &Shell) -> Result<Archive, Report> {
    let plain = opening.open(path, shell)?;
    Archive::parse(&plain).map_err(|error| archive_report(path, &error))
}

fn take_in((path, role): &(PathBuf, Role)) -> Result<Stored, Report> {
    let path = std::path::absolute(path).map_err(|error| cannot_make(path, &error))?;
    let meta = std::fs::metadata(&path).map_err(|error| {
        let report = Report::new(format!("cannot read {}", path.display())).cause(&error).code_id("BACKUP-0008");
        report.hint("run it as the user that runs the signer")
    })?;
    if !meta.is_file() || meta.len() > FILE_MAX {
        let report = Report::new(format!("{} is no file of at most {FILE_MAX} bytes", path.display()));
        return Err(report.code_id("BACKUP-0007").hint("name configurations, not data"));
    }
    let content = Zeroizing::new(read_bounded(&path, FILE_MAX).map_err(|report| report.code_id("BACKUP-0008"))?);
    let stored = Stored::of(&path, *role, &content);
    // A name that could not be restored shows now.
    stored.below(Path::new("")).map_err(|error| archive_report(&path, &error))?;
    Ok(stored)
}

/// Every key of the ledger. A backup without floors protects nothing, so it is made only when it is asked for.
fn floors_in(directory: &Path, may_lack: bool) -> Result<Vec<Known>, Report> {
    let known = if directory.exists() { known(directory)? } else { Vec::new() };
    match known.is_empty() && !may_lack {
        true => Err(Report::new("the backup would hold no floors")
            .because(format!("the ledger in {} is missing, or has no key", directory.display()))
            .code_id("BACKUP-0011")
            .hint("name the ledger with --ledger; --without-floors keeps configurations alone")),
        false => Ok(known),
    }
}

fn create(
    directory: &Path,
    known: &[Known],
    closing: &Closing,
    sources: &[(PathBuf, Role)],
    output: &Path,
    dry_run: bool,
    shell: &Shell,
) -> Result<(), Report> {
    if std::fs::symlink_metadata(output).is_ok() {
        return Err(cannot_make(output, &std::io::Error::from(std::io::ErrorKind::AlreadyExists)));
    }
    if sources.len() > FILES_MAX {
        return Err(Report::new(format!("{} files are too many for a backup", sources.len())).code_id("BACKUP-0007"));
    }
    let files = sources.iter().map(take_in).collect::<Result<Vec<_>, _>>()?;
    let archive = Archive::new(rfc_3339(seconds()), directory, files, known.iter().map(KeyRecord::of).collect());
    let plain = archive.render().map_err(|error| Report::of(&error).code_id("BACKUP-0006"))?;
    // Also in a dry run: a recipient that cannot be used shows now.
    let closed = closing.close(&plain, shell)?;
    if closed.len() as u64 > BACKUP_MAX {
        return Err(Report::new(format!("the backup has more than {BACKUP_MAX} bytes")).code_id("BACKUP-0007"));
    }
    // What it says is what can be read from it.
    let archive = Archive::parse(&plain).map_err(|error| archive_report(output, &error))?;
    show(&archive, shell)?;
    if dry_run {
        shell.status("Would write", output.display());
        return Ok(());
    }
    write_new(output, &closed).map_err(|error| cannot_make(output, &error))?;
    shell.status("Wrote", format!("{}; `backup verify` opens it", output.display()));
    Ok(())
}

fn show(archive: &Archive, shell: &Shell) -> Result<(), Report> {
    for file in &archive.files {
        let short = file.sha256.get(..16).unwrap_or_default();
        said(shell.line(format!("{:<13}  {short}  /{}", file.role.word(), file.name)))?;
    }
    for key in &archive.keys {
        let Some((subject, floors)) = key.subject().zip(key.floors()) else { continue };
        let mut words: Vec<String> = floors.iter().map(|floor| floor.lane.show(floor.mark)).collect();
        words.extend(key.handed_over.then(|| "handed over".into()));
        let words = if words.is_empty() { "nothing signed".into() } else { words.join(", ") };
        said(shell.line(format!("{:<13}  {}  {}  {words}", "floor", subject.key, subject.chain)))?;
    }
    Ok(())
}

fn verify(archive: &Archive, as_json: bool, shell: &Shell) -> Result<(), Report> {
    if as_json {
        let files =
            archive.files.iter().map(|file| json!({ "name": file.name, "role": file.role, "sha256": file.sha256 }));
        return said(shell.json(&json!({
            "schema": 1, "made": archive.made, "ledger": archive.ledger, "files": files.collect::<Vec<_>>(), "keys": archive.keys,
        })));
    }
    show(archive, shell)?;
    let (files, keys) = (archive.files.len(), archive.keys.len());
    shell.status("Whole", format!("{files} files, {keys} keys, made {} from {}", archive.made, archive.ledger));
    Ok(())
}

fn restore_floors(archive: &Archive, place: &Place, how: &How, shell: &Shell) -> Result<(), Report> {
    let directory = place.directory();
    let known = if directory.exists() { known(&directory)? } else { Vec::new() };
    let floors = archive.floors();
    let plan = Plan::of(&known, &floors, "in the backup");
    // Dead in the backup, and not heard of here, or not of this death.
    let is_news = |record: &KeyRecord, subject: &Subject| {
        let here = known.iter().find(|known: &&Known| known.subject == *subject);
        here.is_none_or(|here| !here.buried && here.burials < record.burials)
    };
    let dead = archive.keys.iter().filter(|record| record.handed_over);
    let dead = dead.filter_map(|record| record.subject().filter(|subject| is_news(record, subject)));
    let dead: Vec<Subject> = dead.collect();
    if !dead.is_empty() && !how.dry_run {
        let journal = place.open(&dead).map_err(|error| ledger_report(&error))?;
        for subject in &dead {
            journal.bury(subject, true).map_err(|why| Report::new(why.to_string()))?;
        }
        journal.close().map_err(|error| ledger_report(&error))?;
    }
    plan.carry_out(place, HoldCause::Restored, how, shell)
}

fn restore_files(
    archive: &Archive,
    backup: &Path,
    output: Option<&Path>,
    dry_run: bool,
    shell: &Shell,
) -> Result<(), Report> {
    let Some(directory) = output else {
        if !archive.files.is_empty() {
            shell.note(format!(
                "{} files stay in the backup; --output DIR puts them into a directory",
                archive.files.len()
            ));
        }
        return Ok(());
    };
    for file in &archive.files {
        let failed = |error| archive_report(backup, &error);
        let (path, content) = (file.below(directory).map_err(failed)?, file.content().map_err(failed)?);
        if dry_run {
            shell.status("Would write", path.display());
            continue;
        }
        put(directory, &path, &content).map_err(|error| {
            let report = Report::new(format!("cannot put {} in place", path.display())).cause(&error);
            report.code_id("BACKUP-0009").hint("name an empty directory, or one that does not exist, with --output")
        })?;
        shell.status("Wrote", path.display());
    }
    Ok(())
}

/// Makes a file and the directories above it, below `root`. A link that leads out of it stops it.
fn put(root: &Path, path: &Path, content: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(root);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if !directory.canonicalize()?.starts_with(root.canonicalize()?) {
        return Err(std::io::Error::other("a link leads out of the directory"));
    }
    write_new(path, content)
}
