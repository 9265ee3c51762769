//! Checks of everything that an aggregator stands on. Nothing is written.

use crate::face::settings::{AncillarySigner, ChainAccess, Settings, Uploader, nearest_there};
use crate::host::artifact::{Bucket, CloudKms, LedgerSnapshot, RemoteUploader, S3};
use crate::host::chain::Observer;
use crate::host::commands::{self, look};
use crate::host::http::tls::Tls;
use crate::host::immutable::ImmutableFiles;
use crate::host::keys;
use crate::host::store::read_only::ReadOnly;
use crate::host::store::{FILE, StoreError, VERSION, certificates};
use crate::host::walk::origin::fetch_json;
use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;
use rustix::fs::Access;
use semel_ops::doctor::{Doctor, Verdict};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

/// Lowest version of a Cardano node that Mithril's list of networks asks of an aggregator.
const NODE_MIN: (u64, u64, u64) = (10, 7, 1);
/// Free space below which archives are in danger.
const FREE_MIN: u64 = 50 << 30;

/// Adds the checks of this duty.
pub fn examine(settings: Option<&Settings>, doctor: &mut Doctor) {
    let Some(settings) = settings else {
        doctor.check("AGG-0101", Verdict::Fail, "the settings cannot be used", "mend what `config check` tells");
        return;
    };
    doctor.pass("AGG-0101", "the settings can be used");
    versions(settings, doctor);
    chain(settings, doctor);
    files(settings, doctor);
    stores(settings, doctor);
    ledger(&commands::ledger(&settings.base).directory, doctor);
    address(settings, doctor);
    tls(settings, doctor);
    credentials(settings, doctor);
}

fn versions(settings: &Settings, doctor: &mut Doctor) {
    let (major, minor, patch) = settings.node_version.numbers;
    let found = format!("CARDANO_NODE_VERSION is {}", settings.node_version);
    let fix = format!("Mithril's networks ask for {}.{}.{} at least", NODE_MIN.0, NODE_MIN.1, NODE_MIN.2);
    doctor.demand("AGG-0102", (major, minor, patch) >= NODE_MIN, Verdict::Warn, found, fix);
}

fn chain(settings: &Settings, doctor: &mut Doctor) {
    if let ChainAccess::Node { socket } = &settings.base.chain {
        let is_socket = std::fs::metadata(socket).is_ok_and(|metadata| {
            use std::os::unix::fs::FileTypeExt as _;
            metadata.file_type().is_socket()
        });
        let found = format!("the node's socket is {}", socket.display());
        doctor.demand("AGG-0103", is_socket, Verdict::Fail, found, "start the node, or mend CARDANO_NODE_SOCKET_PATH");
    }
    let observer = match commands::observer(&settings.base) {
        Ok(observer) => observer,
        Err(error) => return doctor.check("AGG-0104", Verdict::Fail, error.to_string(), "see CHAIN_OBSERVER_TYPE"),
    };
    match observer.view() {
        Ok(view) => {
            doctor.pass("AGG-0104", format!("the chain is at epoch {}, block {}", view.epoch, view.tip.block_number));
            stakes(observer.as_ref(), doctor);
            era(settings, observer.as_ref(), &view, doctor);
        }
        Err(error) => {
            doctor.check("AGG-0104", Verdict::Fail, error.to_string(), "see whether the node runs and NETWORK fits")
        }
    }
}

fn stakes(observer: &dyn Observer, doctor: &mut Doctor) {
    match observer.stakes() {
        Ok((_, stakes)) => {
            let found = format!("{} pools have stake", stakes.len());
            doctor.demand("AGG-0105", !stakes.is_empty(), Verdict::Fail, found, "wait until the node has caught up");
        }
        Err(error) => doctor.check("AGG-0105", Verdict::Fail, error.to_string(), "wait until the node has caught up"),
    }
}

fn era(settings: &Settings, observer: &dyn Observer, view: &crate::host::chain::View, doctor: &mut Doctor) {
    let told = settings.base.era_reader.read(observer).map_err(|error| error.to_string());
    let eras =
        told.and_then(|markers| crate::core::era::Eras::at(view.epoch, &markers).map_err(|error| error.to_string()));
    match eras {
        Ok(eras) => doctor.pass("AGG-0106", format!("the era of Mithril is {}", eras.current)),
        Err(why) => doctor.check("AGG-0106", Verdict::Fail, why, "see ERA_READER_ADAPTER_TYPE and _PARAMS, or update"),
    }
}

fn files(settings: &Settings, doctor: &mut Doctor) {
    let types = &settings.entities.types;
    let needs_files = [Kind::CardanoDatabase, Kind::CardanoTransactions, Kind::CardanoBlocksTransactions];
    if !needs_files.iter().any(|kind| types.contains(kind)) {
        return;
    }
    let db = &settings.base.db_directory;
    match ImmutableFiles::list(db) {
        Ok(files) => {
            let last = files.last_complete();
            let directory = files.directory().display();
            let found = match last {
                Some(last) => format!("immutable files in {directory} are complete up to {last}"),
                None => format!("no immutable file in {directory} is complete"),
            };
            doctor.demand("AGG-0107", last.is_some(), Verdict::Fail, found, "wait until the node has two of them");
        }
        Err(error) => doctor.check("AGG-0107", Verdict::Fail, error.to_string(), "see DB_DIRECTORY"),
    }
    if !types.contains(&Kind::CardanoDatabase) {
        return;
    }
    let snapshots = LedgerSnapshot::list(db).map_or(0, |list| list.len());
    let found = format!("{snapshots} ledger snapshots that can be archived");
    doctor.demand("AGG-0108", snapshots > 0, Verdict::Fail, found, "the node must run with the in-memory backend");
    let directory = &settings.artifacts.directory;
    writable("AGG-0109", directory, "SNAPSHOT_DIRECTORY", doctor);
    if let (Uploader::Local, Ok(stat)) = (&settings.artifacts.uploader, rustix::fs::statvfs(nearest_there(directory))) {
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let found = format!("{} GiB are free for archives", free >> 30);
        doctor.demand("AGG-0110", free >= FREE_MIN, Verdict::Warn, found, "archives of mainnet need hundreds of GiB");
    }
}

fn stores(settings: &Settings, doctor: &mut Doctor) {
    let directory = &settings.base.data_stores_directory;
    writable("AGG-0111", directory, "DATA_STORES_DIRECTORY", doctor);
    if std::fs::metadata(directory.join(FILE)).map_or(0, |file| file.len()) == 0 {
        return doctor.check("AGG-0112", Verdict::Skipped, "there is no database yet", "");
    }
    match ReadOnly::open(directory) {
        // It can be read; what serves it needs its own version.
        Ok(store) if store.version() != VERSION => {
            let found = StoreError::Older { path: store.path().to_owned(), found: store.version() }.to_string();
            doctor.check(
                "AGG-0112",
                Verdict::Fail,
                found,
                "take it over into an empty directory with `database import`",
            );
        }
        Ok(store) => {
            let genesis = store.read(certificates::latest_genesis).ok().flatten();
            let count = store.read(certificates::count).unwrap_or_default();
            let found = format!("the database holds {count} certificates");
            let fix = "make one with `genesis bootstrap` on a test network, or `genesis export`, `sign` and `import`";
            doctor.demand("AGG-0112", genesis.is_some(), Verdict::Warn, found, fix);
        }
        Err(error) => doctor.check("AGG-0112", Verdict::Fail, error.to_string(), "see DATA_STORES_DIRECTORY"),
    }
}

fn address(settings: &Settings, doctor: &mut Doctor) {
    let url = &settings.http.public_url;
    let is_local = url.host_str().is_some_and(|host| matches!(host, "0.0.0.0" | "127.0.0.1" | "localhost"));
    let found = format!("clients are told {url}");
    doctor.demand("AGG-0113", !is_local, Verdict::Warn, found, "set PUBLIC_SERVER_URL to what clients can reach");
    let address = settings.http.address;
    let found = format!("{address} is where it listens");
    doctor.demand("AGG-0114", address.port() != 0, Verdict::Fail, found, "set SERVER_PORT");
    match TcpListener::bind(address) {
        Ok(_free) => doctor.pass("AGG-0115", format!("{address} is free to listen on")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => taken(settings, doctor),
        Err(error) => {
            let found = format!("nobody can listen on {address}: {error}");
            doctor.check("AGG-0115", Verdict::Fail, found, "see SERVER_IP and SERVER_PORT")
        }
    }
}

/// Somebody listens there already: it may be the server that these settings are for.
fn taken(settings: &Settings, doctor: &mut Doctor) {
    let (url, address) = (look::served(&settings.http), settings.http.address);
    let trusted = settings.http.tls.as_ref().map(|files| files.certificate.as_path());
    let told = fetch_json(&url, "/status", trusted).ok();
    let network = told.as_ref().and_then(|told| told.get("cardano_network")).and_then(|network| network.as_str());
    let expected = settings.base.network_name.to_string();
    let (is_ours, found) = match network {
        Some(network) if network == expected => (true, format!("an aggregator of {network} runs at {address}")),
        Some(network) => (false, format!("an aggregator of {network}, not {expected}, runs at {address}")),
        None => (false, format!("{address} is taken by another program")),
    };
    doctor.demand("AGG-0115", is_ours, Verdict::Fail, found, "end it, or set SERVER_PORT to a port that is free");
}

fn ledger(directory: &Path, doctor: &mut Doctor) {
    writable("AGG-0116", directory, "SEMEL_LEDGER", doctor);
}

fn tls(settings: &Settings, doctor: &mut Doctor) {
    let Some(files) = &settings.http.tls else { return };
    match Tls::open(files.clone()) {
        Ok(_) => doctor.pass("AGG-0117", format!("TLS with {}", files.certificate.display())),
        Err(error) => {
            doctor.check("AGG-0117", Verdict::Fail, error.to_string(), "see SERVER_TLS_CERTIFICATE_PATH and _KEY_PATH")
        }
    }
}

/// Bucket and key of archives, put together as the server does.
fn credentials(settings: &Settings, doctor: &mut Doctor) {
    if !settings.entities.types.contains(&Kind::CardanoDatabase) {
        return;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return doctor.check("AGG-0118", Verdict::Skipped, format!("no thread can be had: {error}"), ""),
    };
    if let Some(bucket) = settings.artifacts.uploader.bucket() {
        let (Bucket::Google { bucket: name, .. } | Bucket::S3(S3 { bucket: name, .. })) = &bucket;
        match RemoteUploader::new(&bucket, runtime.handle().clone()) {
            Ok(_) => doctor.pass("AGG-0118", format!("credentials for the bucket {name} can be used")),
            Err(error) => {
                let fix = "see GOOGLE_APPLICATION_CREDENTIALS_JSON or AWS_…, and SNAPSHOT_BUCKET_NAME";
                doctor.check("AGG-0118", Verdict::Fail, error.to_string(), fix)
            }
        }
    }
    let key = match &settings.artifacts.ancillary_signer {
        None => Err("there is no key to sign ancillary files with".to_owned()),
        Some(AncillarySigner::SecretKey(secret)) => {
            let key = keys::secret_key(secret.expose()).map_err(|error| error.to_string());
            key.map(|_| "ancillary files are signed with a key that is given here".to_owned())
        }
        Some(AncillarySigner::GcpKms { resource_name, credentials }) => {
            let key = CloudKms::open(resource_name, credentials.json.expose(), runtime.handle().clone());
            key.map(|_| format!("ancillary files are signed with {resource_name}")).map_err(|error| error.to_string())
        }
    };
    runtime.shutdown_background();
    match key {
        Ok(found) => doctor.pass("AGG-0119", found),
        Err(why) => doctor.check("AGG-0119", Verdict::Fail, why, "see ANCILLARY_FILES_SIGNER_CONFIG"),
    }
}

/// Whether a directory is there and can be written, or can be made where its nearest ancestor is.
fn writable(code: &'static str, directory: &Path, variable: &str, doctor: &mut Doctor) {
    let nearest = nearest_there(directory);
    let access = rustix::fs::access(&nearest, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    let found = format!("{variable} is {}", directory.display());
    let fix = format!("let this user write in {}", nearest.display());
    doctor.demand(code, nearest.is_dir() && access, Verdict::Fail, found, fix);
}

#[cfg(test)]
mod tests {
    use super::*;
    use semel_ops::shell::{Format, Shell};
    use std::path::PathBuf;

    /// Verdicts by code, and what was printed.
    fn told(look: impl FnOnce(&mut Doctor)) -> (Vec<(&'static str, Verdict)>, String) {
        let mut doctor = Doctor::default();
        look(&mut doctor);
        let (shell, captured) = Shell::capture(Format::Text);
        let _verdict = doctor.conclude(false, &shell);
        (doctor.checks().iter().map(|check| (check.code, check.verdict)).collect(), captured.out())
    }

    #[test]
    fn a_directory_that_can_be_made_is_as_good_as_one_that_is_there() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (directory, expected) in [
            (place.path().to_owned(), Verdict::Pass),
            (place.path().join("not/there/yet"), Verdict::Pass),
            (PathBuf::from("stores"), Verdict::Pass),
            (PathBuf::from("."), Verdict::Pass),
            (PathBuf::from("./not/there/yet"), Verdict::Pass),
            (file.clone(), Verdict::Fail),
            (file.join("below"), Verdict::Fail),
        ] {
            let (verdicts, out) = told(|doctor| ledger(&directory, doctor));
            assert_eq!(verdicts, [("AGG-0116", expected)], "{}: {out}", directory.display());
        }
    }

    #[test]
    fn a_port_is_free_or_ours_or_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let at = |port: &str| Settings::of_a_leader(&[("SERVER_IP", "127.0.0.1"), ("SERVER_PORT", port)]);
        let of_port = |settings: Settings| {
            let (verdicts, out) = told(|doctor| address(&settings, doctor));
            (verdicts.into_iter().find(|(code, _)| *code == "AGG-0115").unwrap().1, out)
        };
        for (network, expected, said) in [
            (Some("devnet"), Verdict::Pass, "an aggregator of devnet runs"),
            (Some("preview"), Verdict::Fail, "of preview, not devnet"),
            (None, Verdict::Fail, "another program"),
        ] {
            let listener = taken.try_clone().unwrap();
            let server = std::thread::spawn(move || {
                use std::io::{Read as _, Write as _};
                let (mut stream, _) = listener.accept().unwrap();
                let _asked = stream.read(&mut [0; 1024]);
                let body = network.map_or("hello".to_owned(), |name| format!("{{\"cardano_network\":\"{name}\"}}"));
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
                    .unwrap();
            });
            let (verdict, out) = of_port(at(&port));
            assert!(verdict == expected && out.contains(said), "{out}");
            server.join().unwrap();
        }
        drop(taken);
        assert_eq!(of_port(at(&port)).0, Verdict::Pass);
        let elsewhere = Settings::of_a_leader(&[("SERVER_IP", "192.0.2.1"), ("SERVER_PORT", "18080")]);
        assert_eq!(of_port(elsewhere).0, Verdict::Fail);
    }

    #[test]
    fn tls_files_and_credentials_are_read_as_the_server_reads_them() {
        let (verdicts, _) = told(|doctor| tls(&Settings::of_a_leader(&[]), doctor));
        assert!(verdicts.is_empty());
        let files = [("SERVER_TLS_CERTIFICATE_PATH", "/none/c.pem"), ("SERVER_TLS_KEY_PATH", "/none/k.pem")];
        let (verdicts, out) = told(|doctor| tls(&Settings::of_a_leader(&files), doctor));
        assert!(verdicts == [("AGG-0117", Verdict::Fail)] && out.contains("/none/c.pem"), "{out}");
        let secret = hex::encode(format!("{:?}", [1; 32]));
        let signer = format!("{{\"type\": \"secret-key\", \"secret_key\": \"{secret}\"}}");
        let database = [("SIGNED_ENTITY_TYPES", "CardanoDatabase"), ("ANCILLARY_FILES_SIGNER_CONFIG", signer.as_str())];
        let local = [&database[..], &[("SNAPSHOT_UPLOADER_TYPE", "local")]].concat();
        let (verdicts, out) = told(|doctor| credentials(&Settings::of_a_leader(&local), doctor));
        assert_eq!(verdicts, [("AGG-0119", Verdict::Pass)], "{out}");
        let bucket = [
            ("SNAPSHOT_UPLOADER_TYPE", "gcp"),
            ("SNAPSHOT_BUCKET_NAME", "archives"),
            ("GOOGLE_APPLICATION_CREDENTIALS_JSON", "{\"type\": \"none that is known\"}"),
        ];
        let (verdicts, out) =
            told(|doctor| credentials(&Settings::of_a_leader(&[&database[..], &bucket].concat()), doctor));
        assert_eq!(verdicts, [("AGG-0118", Verdict::Fail), ("AGG-0119", Verdict::Pass)], "{out}");
        let (verdicts, _) = told(|doctor| credentials(&Settings::of_a_leader(&[]), doctor));
        assert!(verdicts.is_empty());
    }
}
