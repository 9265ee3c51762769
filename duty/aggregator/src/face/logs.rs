//! Log lines as mithril-aggregator writes them: one bunyan object a line (`msg, v, name, level, time, hostname, pid, src`, then
//! the event's own fields). Levels are bunyan's: trace 10, debug 20, info 30, warn 40, error 50.
//!
//! `serve` logs to stdout, every other command to stderr. Without `-v` errors are logged, each `-v` adds a level; code that is not
//! ours stays at info below `-vvvv`. Directives in `RUST_LOG` refine that.

use semel_ops::env;
use semel_ops::log::{LogError, LogGuard, Writer, start};
use serde_json::{Map, Value, json};
use std::io::Write as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Name of the program in each line.
const NAME: &str = "mithril-aggregator";
/// Fields that every line has.
const OWN_FIELDS: [&str; 8] = ["msg", "v", "name", "level", "time", "hostname", "pid", "src"];

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// The server's log.
    Stdout,
    /// The log of any other command, whose results go to stdout.
    Stderr,
}

/// Starts the log of the process, once. Dropping the guard writes what is waiting.
///
/// # Errors
/// `RUST_LOG` does not parse, there is a log already, or no thread can be had.
pub fn init(verbosity: u8, sink: Sink) -> Result<LogGuard, LogError> {
    let filter = filter(verbosity, env::var(env::RUST_LOG))?;
    let (writer, guard) = match sink {
        Sink::Stdout => start(std::io::stdout())?,
        Sink::Stderr => start(std::io::stderr())?,
    };
    let layer: Bunyan<Writer> = Bunyan::new(writer);
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(LogError::Install)?;
    Ok(guard)
}

fn filter(verbosity: u8, directives: Option<String>) -> Result<EnvFilter, LogError> {
    let (ours, others) = match verbosity {
        0 => ("error", "error"),
        1 => ("warn", "warn"),
        2 => ("info", "info"),
        3 => ("debug", "info"),
        _ => ("trace", "trace"),
    };
    let own = ["semel", "semel_aggregator", "semel_ledger", "semel_ops", "mithril_common"];
    let own: Vec<_> = own.iter().map(|name| format!("{name}={ours}")).collect();
    let value = directives.unwrap_or_default();
    let all = format!("{others},{},{value}", own.join(","));
    EnvFilter::try_new(all.trim_end_matches(',')).map_err(|source| LogError::Directives { value, source })
}

/// Writes events as bunyan lines.
#[derive(Debug)]
pub struct Bunyan<W> {
    writer: W,
    hostname: String,
    pid: u32,
}

impl<W> Bunyan<W> {
    /// Lines go to this writer, each in one piece.
    pub fn new(writer: W) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Self { writer, hostname, pid: std::process::id() }
    }

    fn line(&self, event: &Event<'_>, time: &str) -> String {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let src = fields.0.shift_remove("src").unwrap_or_else(|| json!(metadata.target()));
        let mut line = json!({
            "msg": fields.0.shift_remove("message").unwrap_or_default(), "v": 0, "name": NAME, "level": number(*metadata.level()),
            "time": time, "hostname": self.hostname, "pid": self.pid, "src": src,
        });
        if let Value::Object(line) = &mut line {
            for (name, value) in fields.0 {
                // A field never hides one of the line's own.
                let name = if OWN_FIELDS.contains(&name.as_str()) { format!("event_{name}") } else { name };
                line.insert(name, value);
            }
        }
        line.to_string()
    }
}

const fn number(level: Level) -> u8 {
    match level {
        Level::TRACE => 10,
        Level::DEBUG => 20,
        Level::INFO => 30,
        Level::WARN => 40,
        Level::ERROR => 50,
    }
}

impl<S: Subscriber, W: for<'a> MakeWriter<'a> + 'static> Layer<S> for Bunyan<W> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        let line = self.line(event, &time);
        // A log must not stop its program.
        let _written = self.writer.make_writer_for(event.metadata()).write_all(format!("{line}\n").as_bytes());
    }
}

/// The fields of an event.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(verbosity: u8, log: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let sink = lines.clone();
        let layer = Bunyan::new(move || sink.clone());
        let subscriber = tracing_subscriber::registry().with(filter(verbosity, None).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_the_fields_of_bunyan_in_their_order() {
        let lines = logged(2, || tracing::info!(epoch = 7, src = "Runtime", name = "x", "state is \"{}\"", "READY"));
        let line = lines.first().unwrap().as_object().unwrap();
        let names: Vec<_> = line.keys().map(String::as_str).collect();
        assert_eq!(names, ["msg", "v", "name", "level", "time", "hostname", "pid", "src", "epoch", "event_name"]);
        assert_eq!((line["msg"].as_str(), line["src"].as_str()), (Some("state is \"READY\""), Some("Runtime")));
        assert_eq!((&line["v"], &line["level"], &line["epoch"]), (&json!(0), &json!(30), &json!(7)));
        assert_eq!((line["name"].as_str(), &line["event_name"]), (Some(NAME), &json!("x")));
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
        assert!(line["pid"].as_u64().unwrap() > 0 && !line["hostname"].as_str().unwrap().is_empty());
    }

    #[test]
    fn each_v_adds_a_level() {
        let all = || {
            tracing::error!("e");
            tracing::warn!("w");
            tracing::info!("i");
            tracing::debug!("d");
            tracing::trace!("t");
            tracing::debug!(target: "hyper", "foreign");
        };
        for (verbosity, expected) in [
            (0, &[50][..]),
            (1, &[50, 40]),
            (2, &[50, 40, 30]),
            (3, &[50, 40, 30, 20]),
            (4, &[50, 40, 30, 20, 10, 20]),
            (9, &[50, 40, 30, 20, 10, 20]),
        ] {
            let levels: Vec<_> = logged(verbosity, all).iter().map(|line| line["level"].as_u64().unwrap()).collect();
            assert_eq!(levels, expected, "-{}", "v".repeat(usize::from(verbosity)));
        }
    }

    #[test]
    fn a_message_of_several_lines_stays_one_line() {
        assert_eq!(logged(1, || tracing::warn!("a\nb")).len(), 1);
    }
}
