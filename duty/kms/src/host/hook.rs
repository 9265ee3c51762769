//! `state_hook`: a program that tells the height of the chain.
//!
//! It runs once at the start and prints `{"latest_block_height":"347290"}`. The height is a floor: nothing at or below it is
//! signed. A height below what was signed already is normal and changes nothing.

use semel_guard::{Lane, Ledger, Mark, Subject};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest output of a hook, in bytes.
const OUTPUT_MAX: u64 = 4096;

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
    /// Runs the program and raises the floor to what it says.
    pub fn raise_floor(&self, ledger: &impl Ledger, subject: &Subject) -> Result<(), HookError> {
        match self.run() {
            Ok(height) => {
                let floor = Mark([height.saturating_add(1), 0, 0]);
                let raised = ledger.raise(subject, Lane::Tendermint, floor);
                raised.map_err(|why| HookError { chain: subject.chain.to_string(), reason: why.0 })?;
                tracing::info!("[{}] state_hook: nothing at or below height {height} is signed", subject.chain);
                Ok(())
            }
            Err(reason) if self.fail_closed => Err(HookError { chain: subject.chain.to_string(), reason }),
            Err(reason) => {
                tracing::error!("[{}] state_hook failed: {reason}; going on, as fail_closed is false", subject.chain);
                Ok(())
            }
        }
    }

    fn run(&self) -> Result<u64, String> {
        let (program, arguments) = self.command.split_first().ok_or("its command is empty")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.take(OUTPUT_MAX).read_to_string(&mut text).map(|_| text)
        });
        let deadline = Instant::now() + self.timeout;
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    // It is late either way; what counts is that it is gone.
                    let _gone = child.kill().and_then(|()| child.wait().map(drop));
                    return Err(format!("it took longer than {} s", self.timeout.as_secs_f64()));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if !status.success() {
            return Err(format!("{program} ended with {status}"));
        }
        let text = reader.join().map_err(|_| "its output could not be read")?.map_err(|error| error.to_string())?;
        let json: serde_json::Value =
            serde_json::from_str(text.trim()).map_err(|error| format!("not JSON: {error}"))?;
        let height = json.get("latest_block_height").ok_or("no latest_block_height in its output")?;
        let height = height.as_u64().or_else(|| height.as_str().and_then(|text| text.parse().ok()));
        height.ok_or_else(|| "latest_block_height is not a height".into())
    }
}
