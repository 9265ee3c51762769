//! Signers as processes: started, measured, ended.

use super::error::Trouble;
use serde::Serialize;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a signer to end after SIGTERM.
const END_WAIT: Duration = Duration::from_secs(5);

/// Bytes of a log's end that are shown.
const TAIL_LEN: u64 = 2048;

/// Lines of a log's end that are shown.
const TAIL_LINES: usize = 5;

/// One or more processes that sign together.
pub(crate) struct Signers {
    children: Vec<Child>,
    /// What each wrote. In memory: a file that grows beside the one that is synced would slow that sync down.
    logs: Vec<File>,
}

/// What processes cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Cost {
    pub(crate) processes: usize,
    /// Resident memory of all, KiB.
    pub(crate) rss_kib: u64,
    /// Processor time of all, seconds.
    pub(crate) cpu_seconds: f64,
}

impl Signers {
    /// Starts one process per command line, in `directory`.
    pub(crate) fn start(commands: &[Vec<String>], directory: &Path) -> Result<Self, Trouble> {
        let mut signers =
            Self { children: Vec::with_capacity(commands.len()), logs: Vec::with_capacity(commands.len()) };
        for command in commands {
            let (program, arguments) = command.split_first().map_or(("", [].as_slice()), |(first, rest)| (first, rest));
            let failed = |error| Trouble::Start(program.to_owned(), error);
            let log = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC);
            let log = File::from(log.map_err(|errno| failed(errno.into()))?);
            let mut process = Command::new(program);
            process.args(arguments).current_dir(directory).stdin(Stdio::null());
            process.stdout(log.try_clone().map_err(failed)?).stderr(log.try_clone().map_err(failed)?);
            signers.children.push(process.spawn().map_err(failed)?);
            signers.logs.push(log);
        }
        Ok(signers)
    }

    /// The last lines that a signer wrote: of the first that has ended by itself, or of the first.
    pub(crate) fn log_tail(&mut self) -> String {
        let tail = |log: &File| -> io::Result<String> {
            let len = log.metadata()?.len();
            let from = len.saturating_sub(TAIL_LEN);
            let mut bytes = vec![0; usize::try_from(len - from).unwrap_or_default()];
            log.read_exact_at(&mut bytes, from)?;
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().rev().take(TAIL_LINES).collect();
            Ok(lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
        };
        let ended = self.children.iter_mut().position(|child| !matches!(child.try_wait(), Ok(None)));
        self.logs.get(ended.unwrap_or_default()).and_then(|log| tail(log).ok()).unwrap_or_default()
    }

    /// What they have cost so far.
    pub(crate) fn cost(&self) -> Cost {
        let mut cost = Cost { processes: self.children.len(), ..Cost::default() };
        for child in &self.children {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default();
            let status = read("status");
            let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let rss = rss.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
            cost.rss_kib += rss.unwrap_or_default();
            // The command name may hold spaces; fields are counted from behind it.
            let stat = read("stat");
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            let ticks =
                |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
            cost.cpu_seconds += (ticks(11) + ticks(12)) / 100.0;
        }
        cost
    }

    /// Whether any has ended by itself.
    pub(crate) fn any_ended(&mut self) -> bool {
        self.children.iter_mut().any(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Ends signers that run under strace, which itself takes no signal: it ends after what it traces, and then writes its counts.
    pub(crate) fn end_traced(self) {
        for child in &self.children {
            let id = child.id();
            let traced = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            traced.split_whitespace().filter_map(|id| id.parse().ok()).for_each(terminate);
        }
    }
}

/// Asks a process to end. One that is gone already needs no signal.
fn terminate(id: u32) {
    if let Some(pid) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

impl Drop for Signers {
    fn drop(&mut self) {
        for child in &self.children {
            terminate(child.id());
        }
        let deadline = Instant::now() + END_WAIT;
        for child in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            // Past the deadline it is ended, and in any case reaped.
            let _ended = child.kill().and_then(|()| child.wait().map(drop));
        }
    }
}
