//! `start`: the daemon, from its arguments to its end.

use super::args::{DurabilityArg, LedgerArgs, LogFormatArg, SettingArgs, Start};
use super::status::{self, CONTROL, Reloads};
use super::{Keyring, Manner, config, ledger_report, plans_of, service_report};
use crate::host::meters;
use crate::host::service::Service;
use semel_ledger::{Durability, Journal, Options, RESERVE_HEIGHTS_DEFAULT, Status, default_directory};
use semel_ops::control::Server;
use semel_ops::error::Report;
use semel_ops::health::Health;
use semel_ops::log::{LogFormat, LogOptions};
use semel_ops::metrics::Metrics;
use semel_ops::shutdown::{Signals, Stop, StopReason};
use semel_ops::{harden, http, log, metrics, systemd};
use std::ffi::OsString;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the main thread looks for a reload, and beats for the watchdog.
const TICK: Duration = Duration::from_millis(100);

/// Time between two looks at what metrics tell of the whole process.
const PUBLISH: Duration = Duration::from_secs(1);

/// A heart that has not beaten for this long is a hang.
const HEARTBEAT_MAX: Duration = Duration::from_secs(10);

/// Runs the signer until it is told to stop.
pub(super) fn run(start: &Start, manner: Manner) -> Result<(), Report> {
    let paths = start.configs.paths();
    // Before there is a key in it.
    let unsealed = harden::seal_memory();
    let configs = config::load(&paths)?;
    // Before anything is made: files of root's would stop the right user later.
    let is_root_allowed = configs.iter().filter_map(|config| config.semel.as_ref()?.allow_root).any(|allowed| allowed);
    harden::refuse_root(start.allow_root || is_root_allowed)?;
    let settings = Settings::of(&start.settings, start.ledger.ledger.as_ref(), &configs);
    let options = LogOptions { format: settings.log_format, verbose: start.verbose };
    let logging = log::init(options).map_err(|error| Report::of(&error))?;
    for failed in unsealed {
        tracing::warn!("{failed}");
    }
    let done = serve(start, manner, &paths, configs, settings);
    // Whatever the log still holds comes before the last word.
    drop(logging);
    done
}

/// What the command line and the configurations say together; the command line wins.
#[derive(Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) ledger: PathBuf,
    pub(super) durability: Durability,
    pub(super) hold_new_keys: bool,
    pub(super) http: Option<std::net::SocketAddr>,
    pub(super) log_format: LogFormat,
}

impl Settings {
    pub(super) fn of(arguments: &SettingArgs, ledger: Option<&PathBuf>, configs: &[config::Config]) -> Self {
        let semel = || configs.iter().filter_map(|config| config.semel.as_ref());
        let reserve = match arguments.durability {
            Some(DurabilityArg::Sync) => false,
            Some(DurabilityArg::Reserve) => true,
            None => semel().any(|semel| semel.durability == Some(config::Durability::Reserve)),
        };
        let heights = arguments.reserve_heights.or_else(|| semel().find_map(|semel| semel.reserve_heights));
        Self {
            ledger: directory_of(ledger, configs),
            durability: if reserve {
                Durability::Reserve { heights: heights.unwrap_or(RESERVE_HEIGHTS_DEFAULT) }
            } else {
                Durability::Sync
            },
            hold_new_keys: semel().all(|semel| semel.hold_new_keys != Some(false)),
            http: arguments.http.or_else(|| semel().find_map(|semel| semel.http_addr)),
            log_format: match arguments.log_format {
                Some(LogFormatArg::Json) => LogFormat::Json,
                Some(LogFormatArg::Text) => LogFormat::Text,
                None => semel().find_map(|semel| semel.log_format).unwrap_or_default(),
            },
        }
    }
}

/// The ledger's directory: named, or the host's, or, where the host's is not there and cannot be made, the user's.
pub(super) fn directory(arguments: &LedgerArgs, configs: &[config::Config]) -> PathBuf {
    directory_of(arguments.ledger.as_ref(), configs)
}

/// The same, with the directory that the command line names.
pub(super) fn directory_of(argument: Option<&PathBuf>, configs: &[config::Config]) -> PathBuf {
    let named = configs.iter().filter_map(|config| config.semel.as_ref()?.ledger.clone()).next();
    argument.cloned().or(named).unwrap_or_else(default_directory)
}

/// Options of the ledger, as the command line has them.
pub(super) fn options(directory: PathBuf, arguments: &LedgerArgs) -> Options {
    let mut options = Options::at(directory);
    options.adopt = arguments.adopt_host;
    options.allow_volatile = arguments.i_accept_volatile_ledger;
    options
}

fn serve(
    start: &Start,
    manner: Manner,
    paths: &[PathBuf],
    configs: Vec<config::Config>,
    settings: Settings,
) -> Result<(), Report> {
    let stop = Stop::new();
    let signals = Signals::install(&stop).map_err(|error| Report::new("cannot listen for signals").cause(&error))?;
    tracing::info!("{} {} starting up", manner.name(), manner.version());
    let health = Health::new();
    let ledger_condition = health.register("ledger");
    // Without an address nobody reads them; of a hundred validators they are megabytes.
    let recorder = settings.http.map(|_| Metrics::install()).transpose().map_err(|error| Report::of(&error))?;
    meters::describe();
    metrics::build_info(env!("CARGO_PKG_VERSION"), manner.name(), manner.version());
    let mut keyring = Keyring::default();
    let plans = plans_of(&configs, &mut keyring)?;
    let mut options = options(settings.ledger.clone(), &start.ledger);
    (options.durability, options.hold_new_keys) = (settings.durability, settings.hold_new_keys);
    tracing::info!("ledger in {}", options.directory.display());
    let journal = Journal::open(options, &[]).map_err(|error| ledger_report(&error))?;
    // Before there is a thread that talks to anybody: what this one gives up, those give up, too.
    confine(start, &configs, &settings);
    let server = settings.http.map(|address| http::Server::start(address, &health, recorder.as_ref())).transpose();
    let server = server.map_err(|error| Report::of(&error))?;
    if let Some(server) = &server {
        tracing::info!("health and metrics on http://{}", server.local_addr());
    }
    let mut service = Service::new(journal, health.clone(), stop.clone(), start.dry_run);
    service.apply(plans).map_err(|error| service_report(&error))?;
    ledger_condition.ok();
    publish(&service.journal().status(), &health, &settings.ledger);
    systemd::ready();
    let watchdog = systemd::watchdog(&health, &stop).map_err(|error| Report::new("no watchdog").cause(&error))?;
    let heartbeat = health.heartbeat("main", HEARTBEAT_MAX);
    let control = Server::start(&settings.ledger.join(CONTROL));
    if let Err(error) = &control {
        tracing::warn!(
            "no control socket in {}: {error}; `status` and `reload` do not reach this process",
            settings.ledger.display()
        );
    }
    let files = inodes(&service.journal().status().volume);
    let begun = Instant::now();
    let mut reloads = Reloads::none();
    let mut published = begun;
    while !stop.wait_timeout(TICK) {
        heartbeat.beat();
        while let Some(asked) = control.as_ref().ok().and_then(Server::asked) {
            let answer = match asked.word.as_str() {
                "status" => status::of(&service, &health, begun.elapsed(), manner, &reloads),
                "reload" => {
                    systemd::reloading();
                    reloads.note(reload(start, paths, &settings, &mut service, &mut keyring));
                    systemd::ready();
                    reloads.answer()
                }
                other => serde_json::json!({ "error": format!("nothing here is called {other}") }),
            };
            asked.answer(answer);
        }
        if signals.reloads().try_recv().is_ok() {
            systemd::reloading();
            reloads.note(reload(start, paths, &settings, &mut service, &mut keyring));
            systemd::ready();
        }
        let status = service.journal().status();
        if published.elapsed() >= PUBLISH {
            published = Instant::now();
            publish(&status, &health, &settings.ledger);
            let there = inodes(&status.volume);
            if status.failed.is_none() && files.iter().any(|file| !there.contains(file)) {
                // What is written now is lost with this process.
                service.journal().halt("its files were removed or replaced while it was open");
            }
        }
        if let Some(why) = status.failed
            && ledger_condition.failing(&why)
        {
            tracing::error!("the ledger stopped, nothing is signed any more: {why}");
        }
    }
    systemd::stopping();
    let reason = stop.wait();
    tracing::info!("stopping: {reason}");
    let closed = service.shutdown();
    if let Some(thread) = watchdog {
        // It ends with the stop; a panic in it changes nothing any more.
        let _ended = thread.join();
    }
    if let Some(server) = server {
        server.shutdown();
    }
    closed.map_err(|error| ledger_report(&error))?;
    tracing::info!("stopped, every signed position is in the ledger");
    match reason {
        StopReason::Failed => Err(Report::new("every validator has ended").hint("`reconnect = true` dials again")),
        _ => Ok(()),
    }
}

/// Names and inodes of what is in a directory: a ledger makes all its files when it is opened, and keeps them.
fn inodes(directory: &Path) -> Vec<(OsString, u64)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name(), entry.ino())).collect()
}

/// What is looked at now and then, as metrics.
fn publish(status: &Status, health: &Health, ledger: &Path) {
    let set = |name: &'static str, is: bool| ::metrics::gauge!(name).set(if is { 1.0 } else { 0.0 });
    ::metrics::counter!("semel_ledger_syncs_total").absolute(status.syncs);
    set("semel_ledger_stopped", status.failed.is_some());
    set("semel_ready", health.is_ready());
    if let Ok(stat) = rustix::fs::statvfs(ledger) {
        let free = stat.f_bavail as f64 / stat.f_blocks.max(1) as f64;
        ::metrics::gauge!("semel_ledger_disk_free_ratio").set(free);
    }
}

/// Gives up what a signer does not need.
fn confine(start: &Start, configs: &[config::Config], settings: &Settings) {
    let has_module = configs.iter().any(|config| !config.pkcs11.is_empty());
    if start.no_landlock || has_module {
        // A PKCS#11 module keeps its token where it likes.
        tracing::info!("this process may write anywhere its user may");
        return;
    }
    let states = configs.iter().flat_map(|config| &config.chains).map(|chain| &chain.state_file.value);
    let mut places: Vec<PathBuf> = states.map(|path| harden::directory_of(path)).collect();
    places.extend([settings.ledger.clone(), PathBuf::from("/dev/shm")]);
    // A link leads to where its file is written.
    places.extend(
        configs
            .iter()
            .flat_map(|config| &config.chains)
            .filter_map(|chain| Some(harden::directory_of(&chain.state_file.value.canonicalize().ok()?))),
    );
    if configs.iter().flat_map(|config| &config.chains).any(|chain| chain.state_hook.is_some()) {
        places.push(std::env::temp_dir());
    }
    places.sort();
    places.dedup();
    places.retain(|place| place.exists());
    match harden::write_only_below(&places) {
        Ok(true) => tracing::info!("this process writes to its ledger and state files, and nowhere else"),
        Ok(false) => tracing::info!("this kernel has no Landlock: this process may write anywhere its user may"),
        Err(why) => tracing::warn!("this process may write anywhere its user may: {why}"),
    }
}

/// Takes in the configurations anew. What cannot be used changes nothing.
fn reload(
    start: &Start,
    paths: &[PathBuf],
    settings: &Settings,
    service: &mut Service,
    keyring: &mut Keyring,
) -> Result<String, String> {
    let applied = config::load(paths).map_err(Report::from).and_then(|configs| {
        service.apply(plans_of(&configs, keyring)?).map_err(|error| service_report(&error))?;
        Ok(Settings::of(&start.settings, start.ledger.ledger.as_ref(), &configs) == *settings)
    });
    match applied {
        Ok(true) => {
            tracing::info!("configuration reloaded");
            Ok("configuration reloaded".into())
        }
        Ok(false) => {
            let text = "configuration reloaded, but for [semel]: what changed there counts from the next start";
            tracing::warn!("{text}");
            Ok(text.into())
        }
        Err(report) => {
            let why = report.diagnostics().map_or_else(|| report.to_string(), |found| found.to_text());
            tracing::error!("configuration not reloaded, the old one stays: {why}");
            Err(why)
        }
    }
}
