//! A process that may neither take too long nor say too much.
//!
//! It runs in a process group of its own, which is killed as a whole when time or output run out: what a script started does
//! not stay behind, and does not hold the ends of the pipes open.

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of standard output.
const SAID_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Bytes of standard error that are kept; more is not read.
const COMPLAINED_BYTES_MAX: u64 = 16 * 1024;

/// How often an ending process is looked at.
const LOOK_TIME: Duration = Duration::from_millis(5);

/// What a process left.
#[derive(Debug)]
pub(super) struct Output {
    /// Whether it ended with 0.
    pub(super) success: bool,
    /// Standard output.
    pub(super) said: Vec<u8>,
    /// Standard error, its beginning.
    pub(super) complained: Vec<u8>,
}

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    #[error("it cannot be run: {0}")]
    Start(#[from] io::Error),
    #[error("it has not ended after {} ms", .0.as_millis())]
    Late(Duration),
    #[error("it says more than {SAID_BYTES_MAX} bytes")]
    Long,
}

/// Runs a command to its end, or to the end of our patience.
pub(super) fn run(mut command: Command, patience: Duration) -> Result<Output, ProcessError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let ends = Instant::now() + patience;
    let mut child = command.spawn()?;
    let outcome = attend(&mut child, ends);
    if !matches!(outcome, Ok(Some(_))) {
        kill(&mut child);
    }
    outcome?.ok_or(ProcessError::Late(patience))
}

/// What the process says and how it ends; none when it is late.
fn attend(child: &mut Child, ends: Instant) -> Result<Option<Output>, ProcessError> {
    let said = drain(child.stdout.take(), SAID_BYTES_MAX);
    let complained = drain(child.stderr.take(), COMPLAINED_BYTES_MAX);
    let wait =
        |from: Receiver<io::Result<Vec<u8>>>| match from.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Ok(bytes) => bytes.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("its output is lost")),
        };
    let Some(said) = wait(said)? else { return Ok(None) };
    if said.len() as u64 > SAID_BYTES_MAX {
        return Err(ProcessError::Long);
    }
    let Some(mut complained) = wait(complained)? else { return Ok(None) };
    complained.truncate(usize::try_from(COMPLAINED_BYTES_MAX).unwrap_or(usize::MAX));
    while Instant::now() < ends {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(Output { success: status.success(), said, complained }));
        }
        thread::sleep(LOOK_TIME);
    }
    Ok(None)
}

/// Reads at most one byte more than allowed, on a thread of its own.
fn drain<R: Read + Send + 'static>(from: Option<R>, limit: u64) -> Receiver<io::Result<Vec<u8>>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = from.map_or(Ok(0), |from| from.take(limit + 1).read_to_end(&mut bytes));
        // Whoever waited may have gone.
        drop(send.send(read.map(|_| bytes)));
    });
    receive
}

fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if group.is_none_or(|group| kill_process_group(group, Signal::KILL).is_err()) {
        // The group has ended meanwhile, or at least its first process can be.
        drop(child.kill());
    }
    drop(child.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn output_complaint_and_status_are_kept() {
        let output = run(shell("echo yes; echo no >&2; exit 3"), Duration::from_secs(5)).unwrap();
        assert_eq!((output.success, &output.said[..], &output.complained[..]), (false, &b"yes\n"[..], &b"no\n"[..]));
    }

    #[test]
    fn a_process_that_does_not_end_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let noted = directory.path().join("child");
        let begun = Instant::now();
        let script = format!("sleep 100 & echo $! > {}; sleep 100", noted.display());
        let error = run(shell(&script), Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, ProcessError::Late(_)), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        let child = std::fs::read_to_string(noted).unwrap();
        let status = std::path::PathBuf::from(format!("/proc/{}/status", child.trim()));
        let lives = || std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ"));
        let patient = Instant::now() + Duration::from_secs(5);
        while lives() && Instant::now() < patient {
            thread::sleep(LOOK_TIME);
        }
        assert!(!lives(), "the process that it started is still there");
    }

    #[test]
    fn a_process_that_never_stops_talking_is_cut_off() {
        let error = run(shell("yes"), Duration::from_secs(60)).unwrap_err();
        assert!(matches!(error, ProcessError::Long), "{error}");
    }

    #[test]
    fn long_complaints_do_not_stop_the_process() {
        let output = run(shell("head -c 300000 /dev/zero >&2; echo done"), Duration::from_secs(5)).unwrap();
        assert_eq!(output.complained.len() as u64, COMPLAINED_BYTES_MAX);
    }
}
