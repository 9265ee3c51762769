//! `database …` and `tools …`: what is done, or with `--dry-run` what would be done.

use super::args::{Database, DryRun};
use crate::host::commands::{CommandError, database};
use crate::host::store::VERSION;
use crate::host::store::import::Imported;
use semel_ops::shell::Shell;
use std::path::Path;

/// `database`
pub(super) fn run(verb: &Database, shell: &Shell) -> Result<(), CommandError> {
    match verb {
        Database::Migrate { stores, dry } => migrate(&stores.stores_directory, *dry, shell),
        Database::Vacuum { stores, dry } => vacuum(&stores.stores_directory, *dry, shell),
        Database::Import { from, stores, dry } => {
            let stores = &stores.stores_directory;
            let imported =
                if dry.dry_run { database::import_plan(from, stores)? } else { database::import(from, stores)? };
            import(&imported, *dry, shell);
            Ok(())
        }
    }
}

fn migrate(stores: &Path, dry: DryRun, shell: &Shell) -> Result<(), CommandError> {
    if !dry.dry_run {
        let count = database::migrate(stores)?;
        shell.status("Migrated", format!("the main database, which holds {count} certificates, and that of events"));
        return Ok(());
    }
    let version = |found: Option<i64>| found.map_or_else(|| "none yet".to_owned(), |found| format!("version {found}"));
    let (main, count, events) = database::migrate_plan(stores)?;
    let (main, events) = (version(main), version(events));
    let ours = crate::host::events::VERSION;
    let done = format!(
        "the main database ({main}, {count} certificates) to version {VERSION}, that of events ({events}) to {ours}"
    );
    shell.status("Would", format!("bring {done}"));
    Ok(())
}

fn vacuum(stores: &Path, dry: DryRun, shell: &Shell) -> Result<(), CommandError> {
    if dry.dry_run {
        let (bytes, unused) = database::vacuum_plan(stores)?;
        shell.status("Would", format!("write the main database anew: {bytes} bytes, of which {unused} are not used"));
    } else {
        database::vacuum(stores)?;
        shell.status("Vacuumed", "the main database");
    }
    Ok(())
}

/// `tools recompute-certificates-hash`
pub(super) fn recompute(stores: &Path, dry: DryRun, shell: &Shell) -> Result<(), CommandError> {
    if dry.dry_run {
        let (count, changed) = database::recompute_plan(stores)?;
        shell.status("Would", format!("change the hashes of {changed} of {count} certificates"));
    } else {
        let (count, changed) = database::recompute_certificates_hash(stores)?;
        shell.status("Recomputed", format!("the hashes of {count} certificates; {changed} changed"));
    }
    Ok(())
}

fn import(imported: &Imported, dry: DryRun, shell: &Shell) {
    let certificates = imported.rows.iter().find(|(table, _)| table == "certificate").map_or(0, |(_, rows)| *rows);
    let what = format!("{certificates} certificates from a database of version {}", imported.version);
    let (certificates, artifacts) = (imported.certificates_left_out, imported.artifacts_left_out);
    let why = "of types and forms that nobody can verify any more, or that continue such a one";
    let left_out = format!("{certificates} certificates and {artifacts} artifacts {why}");
    match dry.dry_run {
        true => shell.status("Would", format!("import {what}")),
        false => shell.status("Imported", what),
    }
    match dry.dry_run {
        _ if certificates == 0 => {}
        true => shell.status("Would", format!("leave out {left_out}")),
        false => shell.status("Left out", left_out),
    }
}
