//! `verify`: a chain of certificates, from the newest down to the genesis, and how far it is.
//!
//! With `--resume` the walk is kept in a file after every step. The next one goes on from there; when the chain has
//! grown meanwhile, it walks what is new down to a certificate that the file says was walked. A file that cannot be
//! used is told, and the walk begins anew.

use super::CommandError;
use crate::face::args::Verify;
use crate::host::walk::origin::{self, OriginError};
use crate::host::walk::{WalkError, Walked, join, walk};
use semel_ops::shell::Shell;
use semel_ops::shutdown::{Signals, Stop};
use serde_json::json;
use std::io::{IsTerminal as _, Read as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two lines of a long walk.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Time between two pictures of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(200);
/// Columns of the bar.
const BAR: usize = 30;
/// Bytes of a file that keeps a walk. A real one has some 5 KB.
const KEPT_MAX: u64 = 1 << 20;

/// Walks and verifies a certificate chain.
///
/// # Errors
/// A certificate is not valid, or cannot be had.
pub fn verify(what: &Verify, shell: &Shell) -> Result<(), CommandError> {
    let stop = Stop::new();
    let _signals = Signals::install(&stop).map_err(|error| CommandError::Host("cannot listen for signals", error))?;
    let begun = Instant::now();
    let walked = verify_until(what, &stop, std::io::stderr().is_terminal(), shell)?;
    let done = match what.json {
        true => shell.json(&json!({
            "holds": true,
            "newest": walked.newest,
            "genesis": walked.reached,
            "genesis_epoch": *walked.epoch,
            "certificates": walked.certificates,
            "seconds": begun.elapsed().as_secs_f64(),
        })),
        false => shell.line(format!(
            "{} certificates hold, from {} to the genesis {} of epoch {}",
            walked.certificates, walked.newest, walked.reached, walked.epoch
        )),
    };
    done.map_err(CommandError::Shell)
}

/// Walks until the stop; `is_live`: with a bar.
///
/// # Errors
/// A certificate is not valid, or cannot be had, or the stop came first.
pub fn verify_until(what: &Verify, stop: &Stop, is_live: bool, shell: &Shell) -> Result<Walked, CommandError> {
    let whose = origin::Kind::of(&what.whose);
    let failed = |error: OriginError| CommandError::Walk {
        whose,
        why: match error {
            OriginError::Abandoned => WalkError::Stopped(0),
            error => error.into(),
        },
    };
    let origin = origin::open(&what.whose, stop).map_err(failed)?;
    let newest = match &what.from {
        Some(hash) => hash.clone(),
        None => origin.newest().map_err(failed)?,
    };
    let key = &what.genesis_verification_key;
    let unused = |why: &str| {
        if let Some(path) = &what.resume {
            shell.warning(format!("{} is not used, the walk begins anew: {why}", path.display()));
        }
    };
    let kept = what.resume.as_deref().map_or(Ok(None), read_walked);
    let kept = kept.unwrap_or_else(|why| {
        unused(&why);
        None
    });
    let kept = kept.filter(|kept| {
        let is_usable = what.from.is_none() || kept.newest == newest;
        if !is_usable {
            unused("it keeps a walk that began with another certificate");
        }
        is_usable
    });
    if let Some(kept) = &kept {
        shell.status("Resuming", format!("after {} certificates, at epoch {}", kept.certificates, kept.epoch));
    }
    let down_to = if is_live { origin.genesis_epoch() } else { None };
    let mut teller = Teller::new(shell, is_live, down_to.map(|epoch| *epoch));
    let mut unwritten = None;
    let mut step = |walked: &Walked, is_kept: bool| {
        teller.tell(walked);
        if let Some(path) = what.resume.as_deref().filter(|_| is_kept)
            && let Err(error) = write_walked(path, walked)
        {
            unwritten = Some(CommandError::File { path: path.to_owned(), source: error });
            return ControlFlow::Break(());
        }
        if stop.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let begin = || Walked::begin(&newest);
    let from = match kept {
        Some(kept) if kept.newest != newest => {
            // Below where the earlier walk came to, there is nothing of it to be met any more.
            join(origin.as_ref(), key, &newest, &kept, &mut |walked| {
                step(walked, walked.is_complete || walked.epoch < kept.epoch)
            })
        }
        kept => Ok(kept.unwrap_or_else(begin)),
    };
    let walked = from.and_then(|from| match from.is_complete {
        true => Ok((from, true)),
        false => walk(origin.as_ref(), key, from, &mut |walked| step(walked, true)).map(|walked| (walked, false)),
    });
    teller.end();
    if let Some(error) = unwritten {
        return Err(error);
    }
    let (walked, is_apart) = walked.map_err(|why| CommandError::Walk { whose, why })?;
    if is_apart {
        unused("no certificate that it names lies on the way");
    }
    Ok(walked)
}

/// What an earlier walk came to; none, when there is no file.
fn read_walked(path: &Path) -> Result<Option<Walked>, String> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = Vec::new();
    file.take(KEPT_MAX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let walked: Walked = serde_json::from_slice(&text).map_err(|error| format!("it keeps no walk: {error}"))?;
    match walked.is_complete {
        true => Err("its walk came to the genesis".to_owned()),
        false => Ok(Some(walked)),
    }
}

fn write_walked(path: &Path, walked: &Walked) -> std::io::Result<()> {
    let text = serde_json::to_vec(walked)?;
    let half = path.with_extension("tmp");
    std::fs::write(&half, text)?;
    std::fs::rename(&half, path)
}

/// Tells how far a walk is: with a bar on a terminal, with a line now and then elsewhere.
struct Teller<'s> {
    shell: &'s Shell,
    is_live: bool,
    down_to: Option<u64>,
    // When the first step was told, and its epoch.
    first: Option<(Instant, u64)>,
    told: Instant,
    is_shown: bool,
}

impl Teller<'_> {
    fn new(shell: &Shell, is_live: bool, down_to: Option<u64>) -> Teller<'_> {
        Teller { shell, is_live, down_to, first: None, told: Instant::now(), is_shown: false }
    }

    fn tell(&mut self, walked: &Walked) {
        let (since, from) = *self.first.get_or_insert((Instant::now(), *walked.epoch));
        if self.told.elapsed() < if self.is_live { DRAW_EVERY } else { TELL_EVERY } {
            return;
        }
        self.told = Instant::now();
        let count = format!("{} certificates, down to epoch {}", walked.certificates, walked.epoch);
        if self.is_live {
            let way = self.down_to.and_then(|down_to| bar(from, *walked.epoch, down_to, since.elapsed()));
            let over = if self.is_shown { "\x1b[1A\x1b[J" } else { "" };
            self.shell.note(format!("{over}{:>12} {}{count}", "Verifying", way.unwrap_or_default()));
            self.is_shown = true;
        } else {
            self.shell.status("Verified", count);
        }
    }

    /// Takes the bar away.
    fn end(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            // One line too high, because the note goes to the next one.
            self.shell.note("\x1b[1A\x1b[J\x1b[1A");
        }
    }
}

/// `[======>     ] 12 s left, `, when the way has a length.
fn bar(from: u64, at: u64, down_to: u64, elapsed: Duration) -> Option<String> {
    let whole = from.checked_sub(down_to).filter(|whole| *whole > 0)?;
    let done = from.checked_sub(at)?.min(whole);
    let columns = usize::try_from(done.saturating_mul(BAR as u64) / whole).unwrap_or(BAR).min(BAR);
    let left = match done {
        0 => String::new(),
        done => format!("{:.0} s left, ", elapsed.as_secs_f64() / done as f64 * (whole - done) as f64),
    };
    Some(format!("[{:<BAR$}] {left}", "=".repeat(columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_how_much_of_the_way_is_done_and_what_is_left() {
        let second = Duration::from_secs(1);
        let shown = |from, at, down_to| bar(from, at, down_to, second);
        assert_eq!(shown(100, 100, 10).unwrap(), format!("[{}] ", " ".repeat(BAR)));
        assert_eq!(shown(100, 70, 10).unwrap(), format!("[{}{}] 2 s left, ", "=".repeat(10), " ".repeat(20)));
        assert_eq!(shown(100, 10, 10).unwrap(), format!("[{}] 0 s left, ", "=".repeat(BAR)));
        // What an origin says of its genesis need not be so.
        for (from, at, down_to) in [(5, 5, 5), (5, 4, 9), (5, 6, 1)] {
            assert_eq!(shown(from, at, down_to), None);
        }
        assert!(shown(100, 2, 10).unwrap().starts_with(&format!("[{}]", "=".repeat(BAR))));
        assert!(shown(u64::MAX, 0, 0).is_some());
    }

    #[test]
    fn a_terminal_has_one_line_that_changes_and_a_log_has_lines() {
        for (is_live, expected) in [(true, "Verifying ["), (false, "Verified 7 certificates, down to epoch 90")] {
            let (shell, captured) = Shell::capture(semel_ops::shell::Format::Text);
            let mut teller = Teller::new(&shell, is_live, Some(10));
            let at =
                |epoch| Walked { epoch: mithril_common::entities::Epoch(epoch), certificates: 7, ..Walked::begin("a") };
            teller.tell(&at(100));
            assert_eq!(captured.err(), "");
            teller.told -= TELL_EVERY;
            teller.tell(&at(90));
            teller.end();
            assert!(captured.err().contains(expected), "{}", captured.err());
        }
    }
}
