//! `state_hook`: a program that tells the height of the chain.
//!
//! It runs once at the start and prints `{"latest_block_height":"347290"}`. The height is a floor: nothing at or below it is
//! signed. A height below what was signed already is normal and changes nothing.

use rustix::process::{Pid, Signal, kill_process_group};
use semel_guard::{Lane, Ledger, Mark, Subject};
use semel_ops::shutdown::Stop;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest output of a hook, in bytes.
const OUTPUT_MAX: u64 = 4096;

/// How often a hook is looked at.
const PACE: Duration = Duration::from_millis(5);

/// A hook of one chain.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Longest run.
    pub timeout: Duration,
    /// A hook that fails stops the start.
    pub fail_closed: bool,
}

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
#[error("state_hook of {chain} failed: {reason}")]
pub struct HookError {
    chain: String,
    reason: String,
}

impl Hook {
    /// Runs the program and raises the floor to what it says. `stop` ends the program early, and that is a failure.
    pub fn raise_floor(&self, ledger: &impl Ledger, subject: &Subject, stop: &Stop) -> Result<(), HookError> {
        match self.run(stop) {
            Ok(height) => {
                let floor = Mark([height.saturating_add(1), 0, 0]);
                let raised = ledger.raise(subject, Lane::Tendermint, floor);
                raised.map_err(|why| HookError { chain: subject.chain.to_string(), reason: why.0 })?;
                tracing::info!("[{}] state_hook: nothing at or below height {height} is signed", subject.chain);
                Ok(())
            }
            // Without the floor nothing may be signed, also not in the moment before the end.
            Err(reason) if self.fail_closed || stop.is_stopped() => {
                Err(HookError { chain: subject.chain.to_string(), reason })
            }
            Err(reason) => {
                tracing::error!("[{}] state_hook failed: {reason}; going on, as fail_closed is false", subject.chain);
                Ok(())
            }
        }
    }

    fn run(&self, stop: &Stop) -> Result<u64, String> {
        let (program, arguments) = self.command.split_first().ok_or("its command is empty")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // A group of its own, so that a shell goes together with what it waits for.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let (sender, output) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = stdout.take(OUTPUT_MAX).read_to_string(&mut text).map(|_| text);
            // Nobody waits any more after the timeout.
            let _late = sender.send(read);
        });
        let deadline = Instant::now() + self.timeout;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if Instant::now() > deadline {
                return ended(&mut child, format!("it took longer than {} s", self.timeout.as_secs_f64()));
            }
            if stop.wait_timeout(PACE) {
                return ended(&mut child, "the signer was told to stop".into());
            }
        };
        if !status.success() {
            return Err(format!("{program} ended with {status}"));
        }
        // Something that it left running may hold its output open.
        let left = deadline.saturating_duration_since(Instant::now());
        let text = output.recv_timeout(left).map_err(|_| "its output does not end")?;
        let text = text.map_err(|error| error.to_string())?;
        let json: serde_json::Value =
            serde_json::from_str(text.trim()).map_err(|error| format!("not JSON: {error}"))?;
        let height = json.get("latest_block_height").ok_or("no latest_block_height in its output")?;
        let height = height.as_u64().or_else(|| height.as_str().and_then(|text| text.parse().ok()));
        // A floor is for ever: what no chain can reach would close the key.
        let height = height.filter(|height| i64::try_from(*height).is_ok());
        height.ok_or_else(|| "latest_block_height is not a height".into())
    }
}

/// Ends a hook with all that it started, and says why.
fn ended(child: &mut Child, why: String) -> Result<u64, String> {
    if let Ok(Some(group)) = i32::try_from(child.id()).map(Pid::from_raw) {
        // Whoever is gone already needs no ending.
        let _gone = kill_process_group(group, Signal::KILL);
    }
    let _gone = child.kill().and_then(|()| child.wait().map(drop));
    Err(why)
}
