//! `serve`: from the settings to the end.

use super::{CommandError, era_of, ledger, observer, open_store};
use crate::face::metrics::{self, Gauge};
use crate::face::settings::{self, AncillarySigner, Compression as Algorithm, Role, Settings, Uploader as Where};
use crate::host::aggregator::{Aggregator, Running, Setup, chain_directory};
use crate::host::artifact::{
    Compression, DatabaseMaker, Layout, LocalUploader, ManifestKey, ManifestSigner, RemoteUploader, Uploader,
};
use crate::host::chain::Observer;
use crate::host::chaindata::{self, ChainData, Provers};
use crate::host::engine::{self, Engine};
use crate::host::events::Events;
use crate::host::events::usage::Usage;
use crate::host::files::NodeFiles;
use crate::host::http::tls::Tls;
use crate::host::immutable::CachePolicy;
use crate::host::store::Store;
use crate::host::store::epochs::Settings as EpochSettings;
use crate::host::tickers::{self, Importer};
use crate::host::{artifact, http, keys};
use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;
use semel_ops::health::Health;
use semel_ops::metrics::Metrics;
use semel_ops::shell::Shell;
use semel_ops::shutdown::{Signals, Stop, StopReason};
use semel_ops::systemd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the main thread looks around.
const TICK: Duration = Duration::from_millis(100);
/// Time between two looks at what gauges tell.
const PUBLISH: Duration = Duration::from_secs(1);
/// A runtime that has begun no cycle for so long, beside its interval, hangs. A node may take two minutes to tell stakes.
const RUNTIME_MAX: Duration = Duration::from_secs(600);
/// The main database is written anew without what was deleted after so many days.
const VACUUM_DAYS: i64 = 7;
/// Cache of trees for proofs, in bytes.
const PROOF_CACHE_BYTES: usize = 64 << 20;

/// Runs the server until it is told to stop.
///
/// # Errors
/// It could not start, or a part of it ended.
pub fn serve(settings: Settings, shell: &Shell) -> Result<(), CommandError> {
    let stop = Stop::new();
    let _signals = Signals::install(&stop).map_err(|error| CommandError::Host("cannot listen for signals", error))?;
    let recorder = Metrics::install().map_err(|error| CommandError::Setting(error.to_string()))?;
    metrics::start();
    semel_ops::metrics::build_info(env!("CARGO_PKG_VERSION"), "mithril-aggregator", crate::face::AGGREGATOR_VERSION);
    shell.line("Starting server...").and_then(|()| shell.line("Press Ctrl+C to stop")).map_err(CommandError::Shell)?;
    let (own, face) = (env!("CARGO_PKG_VERSION"), crate::face::AGGREGATOR_VERSION);
    tracing::info!(network = %settings.base.network_name, "semel {own} starts as mithril-aggregator {face}");
    let health = Health::new();
    let condition = health.register("certifying");
    // Transfers to the cloud only; everything else has threads of its own.
    let mut transfers = tokio::runtime::Builder::new_multi_thread();
    let transfers = transfers.worker_threads(1).thread_name("transfer").enable_all().build();
    let transfers = transfers.map_err(|error| CommandError::Host("no runtime for transfers", error))?;
    let events = events(&settings);
    let running = start(&settings, &stop, transfers.handle(), events.clone())?;
    let heartbeat = health.heartbeat("runtime", RUNTIME_MAX.saturating_add(settings.run_interval.saturating_mul(3)));
    let importer = tickers(&settings, running.engine(), &stop);
    let server = settings.metrics.map(|address| semel_ops::http::Server::start(address, &health, Some(&recorder)));
    let server = match server.transpose() {
        Ok(server) => server,
        Err(error) => {
            // Certificates matter more than numbers about them.
            tracing::warn!(%error, "no metrics are served");
            None
        }
    };
    if let Some(address) = running.address() {
        tracing::info!(%address, "the API is served");
    }
    systemd::ready();
    tidy(running.engine().store(), &settings.base.data_stores_directory);
    let watchdog = systemd::watchdog(&health, &stop).map_err(|error| CommandError::Host("no watchdog", error))?;
    let mut published = Instant::now();
    let mut usage = Usage::new(settings.usage_report_interval);
    while !stop.wait_timeout(TICK) {
        if running.has_ended() {
            stop.stop(StopReason::Failed);
        }
        if usage.is_due() {
            usage.report(&recorder.render()).into_iter().for_each(|event| events.record(event));
        }
        if published.elapsed() >= PUBLISH {
            published = Instant::now();
            publish(running.engine());
            if running.engine().since_cycle() < RUNTIME_MAX.saturating_add(settings.run_interval.saturating_mul(2)) {
                heartbeat.beat();
            }
            match running.engine().standing().trouble {
                None => condition.ok(),
                Some(why) => condition.failing(&why),
            };
        }
    }
    systemd::stopping();
    let reason = stop.wait();
    tracing::info!("stopping: {reason}");
    let trouble = running.engine().standing().trouble;
    drop(importer);
    drop(running);
    // What was used since the last report, too; then the file is closed.
    usage.report(&recorder.render()).into_iter().for_each(|event| events.record(event));
    drop(events);
    drop(server);
    if let Some(thread) = watchdog {
        let _ended = thread.join();
    }
    transfers.shutdown_timeout(Duration::from_secs(2));
    tracing::info!("stopped");
    match reason {
        StopReason::Failed => Err(CommandError::Ended(trouble.unwrap_or_else(|| "its runtime is gone".to_owned()))),
        _ => Ok(()),
    }
}

/// The event database. Certificates do not wait for it.
fn events(settings: &Settings) -> Events {
    match Events::open(&settings.base.data_stores_directory, settings.event_retention_days) {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(%error, "no events are kept");
            Events::none()
        }
    }
}

/// Tickers of pools. Certificates do not wait for them either.
fn tickers(settings: &Settings, engine: &Arc<Engine>, stop: &Stop) -> Option<Importer> {
    let from = settings.blockfrost.as_ref()?;
    let importer = Importer::start(from, engine, tickers::FIRST, settings.signer_importer_interval, stop);
    importer.inspect_err(|error| tracing::warn!(%error, "no tickers are imported")).ok()
}

fn start(
    settings: &Settings,
    stop: &Stop,
    transfers: &tokio::runtime::Handle,
    events: Events,
) -> Result<Running, CommandError> {
    let base = &settings.base;
    // A mistake in it is told before anything else is opened.
    let tls = settings.http.tls.clone().map(Tls::open).transpose();
    let tls = tls.map_err(|error| CommandError::Setting(format!("TLS: {error}")))?.map(Arc::new);
    let store = open_store(base, "serve")?;
    let observer: Arc<dyn Observer> = observer(base)?.into();
    let files = Arc::new(node_files(settings, &store, &observer, stop, transfers)?);
    let parameters = match &settings.role {
        Role::Leader { parameters } => Some(parameters.clone()),
        Role::Follower { leader, .. } => {
            tracing::warn!(%leader, "following a leader is not part of this version: nothing is registered or certified");
            None
        }
    };
    let aggregator = Aggregator::open(Setup {
        options: engine::Options {
            network: base.network_name.to_string(),
            genesis: settings.genesis_verification_key,
            settings: parameters.map(|parameters| epoch_settings(settings, parameters)),
            kinds: settings.entities.types.clone(),
            retention: settings.retention_epochs,
            interval: settings.run_interval,
            node_version: settings.node_version.to_string(),
        },
        era: era_of(base, &observer),
        observer,
        clock: Arc::new(chrono::Utc::now),
        ledger: ledger(base),
        store,
        sources: Arc::clone(&files) as Arc<_>,
    })?
    .with_events(events)
    .with_tls(tls);
    if files.maker.is_some() {
        // Only who holds the ledger: what it deletes may be another's work.
        Layout::open(&settings.artifacts.directory)?;
    }
    let archives = matches!(settings.artifacts.uploader, Where::Local)
        .then(|| settings.artifacts.directory.join("cardano-database"));
    let options = http::Options {
        public_url: settings.http.public_url.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hashes_max: settings.http.hashes_per_request_max,
        archives,
        origins: settings.http.origin_tags.iter().cloned().collect(),
    };
    Ok(aggregator.start(settings.http.address, files, options)?)
}

fn epoch_settings(settings: &Settings, parameters: mithril_common::entities::ProtocolParameters) -> EpochSettings {
    // Both, whether the type is certified or not: one that is added later begins at once then.
    let entities = &settings.entities;
    EpochSettings {
        parameters,
        transactions: Some(entities.transactions.clone()),
        blocks_transactions: Some(entities.blocks_transactions.clone()),
    }
}

fn node_files(
    settings: &Settings,
    store: &Store,
    observer: &Arc<dyn Observer>,
    stop: &Stop,
    transfers: &tokio::runtime::Handle,
) -> Result<NodeFiles, CommandError> {
    let base = &settings.base;
    let has = |kind| settings.entities.types.contains(&kind);
    let chain = match has(Kind::CardanoTransactions) || has(Kind::CardanoBlocksTransactions) {
        true => Some(ChainData::open(
            &chain_directory(&base.data_stores_directory),
            chaindata::Options {
                allow_unparsable_block: settings.import.allow_unparsable_block,
                cache_bytes_max: PROOF_CACHE_BYTES,
                hashes_max: settings.http.hashes_per_request_max,
            },
        )?),
        false => None,
    };
    let maker = match has(Kind::CardanoDatabase) {
        true => Some(maker(settings, transfers)?),
        false => None,
    };
    let digests = match (settings.reset_digests_cache, settings.disable_digests_cache) {
        (_, true) => CachePolicy::Off,
        (true, false) => CachePolicy::Reset,
        (false, false) => CachePolicy::Use,
    };
    Ok(NodeFiles {
        db: Some(base.db_directory.clone()),
        observer: Arc::clone(observer),
        store: store.clone(),
        digests: Mutex::new(digests),
        maker,
        chain,
        provers: Provers::default(),
        preload_offset: settings.import.preload_security_parameter,
        insistence: Mutex::default(),
        stop: stop.clone(),
    })
}

fn maker(settings: &Settings, transfers: &tokio::runtime::Handle) -> Result<DatabaseMaker, CommandError> {
    let artifacts = &settings.artifacts;
    let url = settings.http.public_url.as_str();
    let uploader: Arc<dyn Uploader> = match artifacts.uploader.bucket() {
        None => Arc::new(LocalUploader::new(url)),
        Some(bucket) => {
            let uploader = RemoteUploader::new(&bucket, transfers.clone());
            Arc::new(uploader.map_err(|error| CommandError::Setting(error.to_string()))?)
        }
    };
    Ok(DatabaseMaker {
        db: settings.base.db_directory.clone(),
        network: settings.base.network,
        node_version: settings.node_version.to_string(),
        compression: match artifacts.compression {
            Algorithm::Zstandard { level, workers } => Compression { level, workers, ..Compression::default() },
            Algorithm::Gzip => Compression { algorithm: artifact::Algorithm::Gzip, ..Compression::default() },
        },
        layout: Layout::at(&artifacts.directory),
        manifest: manifest(artifacts, transfers)?,
        uploaders: vec![uploader],
        digests_route: format!("{}/artifact/cardano-database/digests", url.trim_end_matches('/')),
    })
}

fn manifest(
    artifacts: &settings::Artifacts,
    transfers: &tokio::runtime::Handle,
) -> Result<Arc<dyn ManifestSigner>, CommandError> {
    let key = match &artifacts.ancillary_signer {
        None => {
            return Err(CommandError::Setting("ANCILLARY_FILES_SIGNER_CONFIG is needed for CardanoDatabase".into()));
        }
        Some(AncillarySigner::SecretKey(secret)) => keys::secret_key(secret.expose())?,
        Some(AncillarySigner::GcpKms { resource_name, credentials }) => {
            let kms =
                crate::host::artifact::CloudKms::open(resource_name, credentials.json.expose(), transfers.clone());
            semel_guard::Key::new(Box::new(kms.map_err(|error| CommandError::Setting(error.to_string()))?))
        }
    };
    let signer = ManifestKey::new(key).map_err(|error| CommandError::Setting(error.to_string()))?;
    Ok(Arc::new(signer))
}

/// Writes the database anew when that was not done for a week.
fn tidy(store: &Store, stores: &Path) {
    let path = stores.join("last_vacuum_time");
    let last = std::fs::read_to_string(&path).ok();
    let last = last.and_then(|text| chrono::DateTime::parse_from_rfc3339(text.trim()).ok());
    let now = chrono::Utc::now();
    if last.is_some_and(|last| now.signed_duration_since(last) < chrono::TimeDelta::days(VACUUM_DAYS)) {
        return;
    }
    let done = store.vacuum().map_err(|error| error.to_string());
    let done = done.and_then(|()| std::fs::write(&path, now.to_rfc3339()).map_err(|error| error.to_string()));
    if let Err(error) = done {
        tracing::warn!(error, "the database was not tidied up; it is tried again at the next start");
    }
}

/// What is looked at now and then.
fn publish(engine: &Engine) {
    let standing = engine.standing();
    for state in ["idle", "blocked", "ready", "signing"] {
        Gauge::State.set(state, f64::from(u8::from(standing.state.name() == state)));
    }
    if let Some(data) = engine.epoch() {
        Gauge::Epoch.set("", *data.epoch as f64);
        let signers = data.current.as_ref().map_or((0, 0), |roster| (roster.signers().len(), roster.total_stake()));
        Gauge::Signers.set("", signers.0 as f64);
        Gauge::StakeCoverage.set("", signers.1 as f64 / data.stake.max(1) as f64);
    }
    for open in engine.open_messages() {
        let (counted, needed) = open.progress();
        // What was counted is forgotten with the certificate.
        let have = if open.is_certified() { needed } else { counted };
        let name = metrics::entity_label(Kind::from(&open.message.entity));
        Gauge::OpenMessageIndexes.set(name, have as f64);
        Gauge::OpenMessageProgress.set(name, have as f64 / needed.max(1) as f64);
    }
    if let Ok(pending) = engine.pending_artifacts() {
        Gauge::ArtifactsQueued.set("", pending.len() as f64);
    }
    if let Ok(Some(sealed_at)) = engine.store().read(crate::host::store::certificates::latest_sealed_at) {
        let age = chrono::Utc::now().signed_duration_since(sealed_at);
        Gauge::CertificateAgeSeconds.set("", age.num_milliseconds() as f64 / 1000.0);
    }
    if let Ok(metadata) = std::fs::metadata(engine.store().path()) {
        Gauge::DatabaseBytes.set("main", metadata.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_configurations_are_recorded_of_types_that_are_not_certified_too() {
        let settings = Settings::of_a_leader(&[("SIGNED_ENTITY_TYPES", "CardanoStakeDistribution")]);
        let Role::Leader { parameters } = settings.role.clone() else { panic!("it leads") };
        let recorded = epoch_settings(&settings, parameters);
        assert_eq!(recorded.transactions.unwrap(), settings.entities.transactions);
        assert_eq!(recorded.blocks_transactions.unwrap(), settings.entities.blocks_transactions);
    }
}
