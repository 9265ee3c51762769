//! Log lines: tracing events to stdout, as text or JSON, off the hot path.
//!
//! The level is info, or debug with `-v`; directives in `RUST_LOG` refine either. ANSI colour only on a terminal. A line is
//! formatted in the thread that logs and then handed to a bounded queue that one thread drains, see `queue.rs`. Each message
//! that can repeat every second goes through a [`Collapse`].

pub mod collapse;
mod queue;

pub use collapse::Collapse;
pub use queue::Writer;

use crate::env;
use queue::Queue;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: time, level, module, message.
    #[default]
    Text,
    /// One object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<LogFormat, ()> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(()),
        }
    }
}

/// How to log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Shape of lines.
    pub format: LogFormat,
    /// debug instead of info.
    pub verbose: bool,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` does not parse.
    #[error("the environment variable RUST_LOG has no list of log directives: {value:?}")]
    Directives {
        /// What it says.
        value: String,
        /// What is wrong.
        #[source]
        source: ParseError,
    },
    /// There is a log already.
    #[error("cannot install the log")]
    Install(#[source] TryInitError),
    /// No thread to write it.
    #[error("cannot start the log thread")]
    Thread(#[source] io::Error),
}

/// Starts the log of the process, once. Lines are written until the returned guard is dropped, which flushes.
///
/// # Errors
/// When `RUST_LOG` does not parse, when there is a log already, when no thread can be had.
pub fn init(options: LogOptions) -> Result<LogGuard, LogError> {
    let filter = filter(options.verbose, env::var(env::RUST_LOG))?;
    let (writer, guard) = start(io::stdout())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stdout().is_terminal() && wants_colour())
        .with_writer(writer);
    match options.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(LogError::Install)?;
    Ok(guard)
}

/// A queue of log lines, and the thread that writes them to `sink`: for faces whose lines have another shape. Each line has to be
/// written in one piece.
///
/// # Errors
/// When no thread can be had.
pub fn start(sink: impl io::Write + Send + 'static) -> Result<(Writer, LogGuard), LogError> {
    let queue = Arc::new(Queue::new());
    let drained = Arc::clone(&queue);
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || drained.drain(sink))
        .map_err(LogError::Thread)?;
    Ok((Writer::new(&queue), LogGuard { queue, thread: Some(thread) }))
}

fn wants_colour() -> bool {
    env::var(env::NO_COLOR).is_none()
        && env::var(env::CLICOLOR).as_deref() != Some("0")
        && env::var(env::TERM).as_deref() != Some("dumb")
}

fn filter(verbose: bool, directives: Option<String>) -> Result<EnvFilter, LogError> {
    let base = if verbose { "debug" } else { "info" };
    let Some(value) = directives else {
        return EnvFilter::try_new(base).map_err(|source| LogError::Directives { value: base.to_owned(), source });
    };
    EnvFilter::try_new(format!("{base},{value}")).map_err(|source| LogError::Directives { value, source })
}

/// Longest wait for what is still in the log at the end.
const LAST_WORDS_MAX: Duration = Duration::from_millis(300);

/// Keeps the log running; dropping it writes what is waiting and ends the log thread.
#[must_use = "the log ends when this is dropped"]
pub struct LogGuard {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.close();
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + LAST_WORDS_MAX;
        while !thread.is_finished() {
            // Whoever reads the log has stopped: it must not keep the program from ending.
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

impl fmt::Debug for LogGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogGuard")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use queue::tests::Sink;

    #[test]
    fn a_line_of_text_has_level_module_and_message_and_no_colour() {
        let sink = Sink::default();
        let (writer, guard) = start(sink.clone()).unwrap();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || tracing::info!("[a@b] signed Prevote"));
        drop(guard);
        let text = sink.text();
        assert!(text.ends_with("INFO semel_ops::log::tests: [a@b] signed Prevote\n"), "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_line_of_json_is_one_flat_object() {
        let sink = Sink::default();
        let (writer, guard) = start(sink.clone()).unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(writer).json().flatten_event(true).finish();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(height = 7, "slow"));
        drop(guard);
        let value: serde_json::Value = serde_json::from_str(sink.text().trim()).unwrap();
        assert_eq!((value["message"].as_str(), value["height"].as_u64()), (Some("slow"), Some(7)));
    }

    #[test]
    fn directives_refine_the_level_that_the_flags_ask_for() {
        for (verbose, directives, expected) in [
            (false, None, "info"),
            (true, None, "debug"),
            (false, Some("warn"), "warn"),
            (true, Some("semel_kms=trace"), "semel_kms=trace,debug"),
        ] {
            let filter = filter(verbose, directives.map(str::to_owned)).unwrap();
            assert_eq!(filter.to_string(), expected);
        }
        let error = filter(false, Some("a=b=c".to_owned())).unwrap_err();
        assert!(error.to_string().contains("\"a=b=c\""), "{error}");
    }
}
