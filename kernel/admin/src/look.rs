//! `ledger show`, `ledger history`, `ledger verify`: reading a ledger, also while a signer writes it.

use crate::{Place, ledger_report, said};
use clap::{Args, Subcommand};
use semel_guard::{Lane, Mark, Reason, Subject};
use semel_ledger::{Journal, Kind, Known, Record, SubjectId, subject_id};
use semel_ops::clock::rfc_3339;
use semel_ops::error::Report;
use semel_ops::shell::Shell;
use serde_json::json;
use std::collections::BTreeMap;

/// Characters of a key or digest in a table.
pub(crate) const SHORT: usize = 12;

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum Look {
    /// What was signed last, per key and chain
    Show {
        /// Which ledger
        #[command(flatten)]
        place: Place,
        /// Which keys
        #[command(flatten)]
        which: Which,
        /// Every key there is, which is what is shown without --key and --chain
        #[arg(long)]
        all: bool,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// What was admitted, signed and refused, oldest first
    History {
        /// Which ledger
        #[command(flatten)]
        place: Place,
        /// Which keys
        #[command(flatten)]
        which: Which,
        /// Only this height (slot, epoch)
        #[arg(long)]
        height: Option<u64>,
        /// The last so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// For machines
        #[arg(long)]
        json: bool,
    },
    /// Check every record: checksums, the chain of hashes, what was acknowledged
    Verify {
        /// Which ledger
        #[command(flatten)]
        place: Place,
        /// For machines
        #[arg(long)]
        json: bool,
    },
}

/// Which keys.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Only keys that begin like this, in hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
    /// Only this chain
    #[arg(long, value_name = "ID")]
    pub chain: Option<String>,
}

impl Which {
    pub(crate) fn takes(&self, known: &Known) -> bool {
        self.means(&known.subject)
    }

    pub(crate) fn means(&self, subject: &Subject) -> bool {
        let key = subject.key.to_string();
        self.key.as_ref().is_none_or(|wanted| key.starts_with(&wanted.to_uppercase()))
            && self.chain.as_ref().is_none_or(|wanted| subject.chain.as_str() == wanted)
    }
}

impl Look {
    /// Runs the command.
    pub fn run(&self, shell: &Shell) -> Result<(), Report> {
        match self {
            Self::Show { place, which, json, .. } => show(place, which, *json, shell),
            Self::History { place, which, height, limit, json } => history(place, which, *height, *limit, *json, shell),
            Self::Verify { place, json } => verify(place, *json, shell),
        }
    }
}

/// The highest position that is closed in a lane.
pub(crate) fn highest(lane: Lane, history: &semel_guard::History) -> Option<Mark> {
    let last = history.recent.iter().map(|entry| entry.mark).reduce(|a, b| lane.higher(a, b));
    match (last, history.floor) {
        (Some(last), Some(floor)) => Some(lane.higher(last, floor)),
        (last, floor) => last.or(floor),
    }
}

fn known(place: &Place, which: &Which) -> Result<Vec<Known>, Report> {
    let all = crate::known(&place.directory())?;
    Ok(all.into_iter().filter(|known| which.takes(known)).collect())
}

fn records(place: &Place) -> Result<Vec<(u64, Vec<Record>)>, Report> {
    Journal::records(&place.directory()).map_err(|error| ledger_report(&error))
}

pub(crate) fn show(place: &Place, which: &Which, as_json: bool, shell: &Shell) -> Result<(), Report> {
    let known = known(place, which)?;
    // When something was admitted last, as far as records go back.
    let mut times: BTreeMap<(SubjectId, u16), u64> = BTreeMap::new();
    for record in records(place)?.iter().flat_map(|(_, records)| records).filter(|record| record.kind == Kind::Entry) {
        let time = times.entry((record.subject, record.lane)).or_default();
        *time = record.time.max(*time);
    }
    let mut rows = Vec::new();
    for known in &known {
        for (lane, history) in &known.lanes {
            let position = highest(*lane, history).map(|mark| (mark, lane.show(mark)));
            let time = times.get(&(subject_id(&known.subject), lane.code())).copied();
            rows.push((&known.subject, lane, position, time, history));
        }
    }
    if as_json {
        let keys: Vec<_> = rows
            .iter()
            .map(|(subject, lane, position, time, history)| {
                json!({
                    "key": subject.key.to_string(), "algorithm": subject.key.algorithm().to_string(), "chain": subject.chain.as_str(),
                    "lane": lane.to_string(), "height": position.as_ref().map(|(mark, _)| mark.0[0]),
                    "position": position.as_ref().map(|(_, text)| text), "time": time.map(rfc_3339),
                    "handed_over": history.tombstone, "holds": history.hold.map(|hold| hold.cause.to_string()),
                })
            })
            .collect();
        return said(shell.json(&json!({ "schema": 1, "ledger": place.directory(), "keys": keys })));
    }
    if rows.is_empty() {
        shell.status("Nothing", format!("no such key in {}", place.directory().display()));
        return Ok(());
    }
    let widest = rows.iter().map(|(subject, ..)| subject.chain.as_str().len()).max().unwrap_or(0).max("chain".len());
    said(shell.line(format!(
        "{:<SHORT$}  {:<widest$}  {:<24}  {:<20}  lane",
        "key", "chain", "closed up to", "last admitted"
    )))?;
    for (subject, lane, position, time, history) in rows {
        let key: String = subject.key.to_string().chars().take(SHORT).collect();
        let position = position.map_or_else(|| "nothing".into(), |(_, text)| text);
        let time = time.map_or_else(|| "-".into(), rfc_3339);
        let mark = match (history.tombstone, history.hold) {
            (true, _) => "  handed over, signs nothing".into(),
            (false, Some(hold)) => format!("  waits: {}", hold.cause),
            (false, None) => String::new(),
        };
        said(
            shell.line(format!("{key}  {:<widest$}  {position:<24}  {time:<20}  {lane}{mark}", subject.chain.as_str())),
        )?;
    }
    Ok(())
}

fn history(
    place: &Place,
    which: &Which,
    height: Option<u64>,
    limit: usize,
    as_json: bool,
    shell: &Shell,
) -> Result<(), Report> {
    let known = known(place, which)?;
    let chains: BTreeMap<SubjectId, &Known> = known.iter().map(|known| (subject_id(&known.subject), known)).collect();
    let mut rows: Vec<(Record, &Known, Lane)> = Vec::new();
    for record in records(place)?.into_iter().flat_map(|(_, records)| records) {
        let is_news =
            matches!(record.kind, Kind::Entry | Kind::Signature | Kind::Refusal | Kind::Floor | Kind::Tombstone);
        let lane = Lane::from_code(record.lane).or((record.kind == Kind::Tombstone).then_some(Lane::Tendermint));
        let (Some(known), Some(lane), true) = (chains.get(&record.subject), lane, is_news) else { continue };
        if height.is_none_or(|height| record.kind != Kind::Tombstone && record.mark.0[0] == height) {
            // A checkpoint says again what was said before it.
            let is_again = rows.iter().rev().any(|(other, ..)| {
                (other.kind, other.subject, other.mark, other.digest)
                    == (record.kind, record.subject, record.mark, record.digest)
                    && other.kind != Kind::Refusal
                    && (other.kind != Kind::Tombstone || other.version == record.version)
            });
            if !is_again {
                rows.push((record, known, lane));
            }
        }
    }
    rows.sort_by_key(|(record, ..)| record.time);
    let skipped = rows.len().saturating_sub(limit);
    let mut out = Vec::new();
    for (record, known, lane) in rows.iter().skip(skipped) {
        let what = match record.kind {
            Kind::Entry => "admitted".to_owned(),
            Kind::Signature => "signed".to_owned(),
            Kind::Floor => "floor".to_owned(),
            Kind::Tombstone if record.flag == 1 => "handed over".to_owned(),
            // A key that was never handed over has one, too: where its history begins.
            Kind::Tombstone if record.version == 0 => "key added".to_owned(),
            Kind::Tombstone => "taken back".to_owned(),
            _ => {
                let reason = Reason::ALL.get(usize::from(record.flag));
                reason.map_or_else(|| "refused".into(), |reason| format!("refused ({})", reason.label()))
            }
        };
        let digest: String = record.digest.to_string().chars().take(SHORT).collect();
        let place = (record.kind != Kind::Tombstone).then(|| lane.show(record.mark));
        out.push((rfc_3339(record.time), &known.subject, what, place, digest));
    }
    if as_json {
        let rows: Vec<_> = out
            .iter()
            .map(|(time, subject, what, place, digest)| {
                json!({
                    "time": time, "key": subject.key.to_string(), "chain": subject.chain.as_str(), "what": what,
                    "position": place, "digest": digest,
                })
            })
            .collect();
        return said(shell.json(&json!({ "schema": 1, "records": rows, "older": skipped })));
    }
    if skipped > 0 {
        shell.status("Older", format!("{skipped} records are not shown; --limit shows more"));
    }
    for (time, subject, what, place, digest) in out {
        let key: String = subject.key.to_string().chars().take(SHORT).collect();
        let (chain, place) = (subject.chain.as_str(), place.as_deref().unwrap_or("-"));
        said(shell.line(format!("{time}  {key}  {chain}  {what:<22}  {place:<24}  {digest}")))?;
    }
    Ok(())
}

fn verify(place: &Place, as_json: bool, shell: &Shell) -> Result<(), Report> {
    let volumes: Vec<(u64, usize)> =
        records(place)?.into_iter().map(|(number, records)| (number, records.len())).collect();
    if as_json {
        let volumes: Vec<_> = volumes.iter().map(|(n, records)| json!({ "volume": n, "records": records })).collect();
        return said(
            shell.json(&json!({ "schema": 1, "ledger": place.directory(), "is_whole": true, "volumes": volumes })),
        );
    }
    verified(&volumes, shell);
    Ok(())
}

/// Says how much is whole.
pub(crate) fn verified(volumes: &[(u64, usize)], shell: &Shell) {
    let count: usize = volumes.iter().map(|(_, records)| records).sum();
    shell.status(
        "Verified",
        format!("{count} records in {} volumes: every one is whole, and follows the one before it", volumes.len()),
    );
}
