//! Floors that come from files: what each would change, as a table, and the change itself. They only rise.

use crate::look::SHORT;
use crate::{Place, ledger_report, said};
use clap::Args;
use semel_guard::{HOLD_HEIGHTS, HoldCause, Lane, Ledger, Mark, Subject, Unavailable};
use semel_ledger::{Journal, Known, Options};
use semel_ops::error::Report;
use semel_ops::shell::Shell;

/// What a file says of one lane of a key: everything up to `mark` is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The key and its chain.
    pub subject: Subject,
    /// The lane.
    pub lane: Lane,
    /// Nothing at or below it may be signed.
    pub mark: Mark,
}

/// Whether the keys watch before they sign, once their floors are raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// As before.
    AsBefore,
    /// They do, for this cause.
    Begin(HoldCause),
    /// They do not, not even those that did.
    End,
}

/// How floors are taken in.
#[derive(Debug, Clone, Args)]
pub struct How {
    /// Let the keys sign at once: whoever signed with them has stopped, and this file knows the last of it
    #[arg(long)]
    no_hold: bool,
    /// Show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// One line of the table.
struct Row<'a> {
    floor: &'a Floor,
    now: Option<Mark>,
    after: Mark,
}

/// What a file would change.
pub(crate) struct Plan<'a> {
    rows: Vec<Row<'a>>,
    /// Names of the three columns of positions.
    columns: [&'static str; 3],
}

impl<'a> Plan<'a> {
    pub(crate) fn of(known: &[Known], floors: &'a [Floor], source: &'static str) -> Self {
        let now = |floor: &Floor| {
            let known = known.iter().find(|known| known.subject == floor.subject)?;
            known.lanes.iter().find(|(lane, _)| *lane == floor.lane)?.1.floor
        };
        let row = |floor: &'a Floor| {
            let now = now(floor);
            let after = now.map_or(floor.mark, |now| floor.lane.higher(now, floor.mark));
            Row { floor, now, after }
        };
        Self { rows: floors.iter().map(row).collect(), columns: ["floor now", source, "floor after"] }
    }

    /// Shows the table and raises what rises. The keys of what rose watch first, for this cause; with `no_hold` none of the file does.
    pub(crate) fn carry_out(&self, place: &Place, cause: HoldCause, how: &How, shell: &Shell) -> Result<(), Report> {
        self.show(shell)?;
        if how.dry_run {
            let count = self.rows.iter().filter(|row| row.now != Some(row.after)).count();
            match count {
                0 => shell.status("Unchanged", "the ledger knows all of it, or more"),
                _ => shell.status("Would raise", format!("{count} floors")),
            }
            return Ok(());
        }
        // The table shows what is promised to be closed; under the lock of its key a floor may turn out to be lower.
        let all: Vec<Floor> = self.rows.iter().map(|row| row.floor.clone()).collect();
        let wait = if how.no_hold { Wait::End } else { Wait::Begin(cause) };
        match raise(place.options(), &all, wait)? {
            0 if !how.no_hold => shell.status("Unchanged", "the ledger knows all of it, or more"),
            count if how.no_hold => {
                shell.status("Raised", format!("{count} floors; no key watches before it signs"));
            }
            count => {
                let text = format!("{count} floors; their keys watch {HOLD_HEIGHTS} heights before they sign");
                shell.status("Raised", text);
            }
        }
        Ok(())
    }

    /// A line per lane: the floor now, what the file says, the floor after.
    fn show(&self, shell: &Shell) -> Result<(), Report> {
        let [now, source, after] = self.columns.map(str::to_owned);
        let mut lines = vec![["key".to_owned(), "chain".to_owned(), "lane".to_owned(), now, source, after]];
        for Row { floor, now, after } in &self.rows {
            let show = |mark: Mark| floor.lane.show(mark);
            lines.push([
                floor.subject.key.to_string().chars().take(SHORT).collect(),
                floor.subject.chain.to_string(),
                floor.lane.to_string(),
                now.map_or_else(|| "nothing".into(), show),
                show(floor.mark),
                show(*after),
            ]);
        }
        let mut widths = [0_usize; 6];
        for line in &lines {
            widths.iter_mut().zip(line).for_each(|(width, cell)| *width = cell.chars().count().max(*width));
        }
        for line in &lines {
            let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
            said(shell.line(cells.collect::<Vec<_>>().join("  ").trim_end()))?;
        }
        Ok(())
    }
}

/// Raises floors, durably, under the lock of each key. A floor that is there already stays. How many rose.
pub fn raise(options: Options, floors: &[Floor], wait: Wait) -> Result<usize, Report> {
    let failed = |why: Unavailable| Report::new(why.to_string());
    let mut subjects: Vec<Subject> = floors.iter().map(|floor| floor.subject.clone()).collect();
    subjects.sort();
    subjects.dedup();
    let journal = Journal::open(options, &subjects).map_err(|error| ledger_report(&error))?;
    let mut rising = Vec::new();
    for floor in floors {
        let known = journal.history(&floor.subject, floor.lane).map_err(failed)?.floor;
        if known.is_none_or(|known| floor.lane.higher(known, floor.mark) != known) {
            rising.push(floor);
        }
    }
    for subject in &subjects {
        let rises = rising.iter().any(|floor| floor.subject == *subject);
        match wait {
            // Before its floor: what ends in between leaves a key that waits.
            Wait::Begin(cause) if rises => journal.set_hold(subject, Some(cause)).map_err(failed)?,
            Wait::End if journal.hold(subject).is_some() => journal.set_hold(subject, None).map_err(failed)?,
            Wait::Begin(_) | Wait::End | Wait::AsBefore => {}
        }
    }
    for floor in &rising {
        journal.raise(&floor.subject, floor.lane, floor.mark).map_err(failed)?;
    }
    journal.close().map_err(|error| ledger_report(&error))?;
    Ok(rising.len())
}
