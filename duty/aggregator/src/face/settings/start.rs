//! What the server opens before it serves: certificate, service accounts, directories, databases. Nothing is made or written here.
//!
//! `serve` and `config check` ask the same question, so that the one starts with what the other accepts. What only others can
//! answer (the node, the bucket, the ledger's holder) is for `doctor`.

use super::layers::Layers;
use super::read::{Reader, variable};
use super::{AncillarySigner, Outcome, Settings};
use crate::face::codes;
use crate::host::artifact::{Bucket, RemoteUploader};
use crate::host::http::tls::{Tls, TlsError};
use crate::host::store::{self, StoreError};
use mithril_common::entities::SignedEntityTypeDiscriminants as Kind;
use rustix::fs::{Access, access};
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

impl Settings {
    /// As [`Settings::read`], with what the server reads at its start.
    pub fn read_to_start(layers: Layers) -> Outcome<Settings> {
        let reader = Reader { layers: &layers };
        let value = reader.settings();
        if let Some(settings) = &value {
            reader.start(settings);
        }
        Outcome::of(value, layers)
    }
}

impl Reader<'_> {
    fn start(&self, settings: &Settings) {
        self.start_tls(settings);
        self.start_accounts(settings);
        let stores = &settings.base.data_stores_directory;
        if self.start_directory("data_stores_directory", stores) {
            self.start_database(stores);
        }
        if settings.entities.types.contains(&Kind::CardanoDatabase) {
            self.start_directory("snapshot_directory", &settings.artifacts.directory);
        }
    }

    fn unusable(&self, key: &str, why: impl Display) {
        self.error(&codes::UNUSABLE, key, format!("{} cannot be used: {why}", variable(key)));
    }

    /// Another user than this one may serve: a warning.
    fn not_by_us(&self, key: &str, why: impl Display) {
        let message = format!("{} cannot be used by this user: {why}", variable(key));
        let hint = "ask again as the user that serves: its server has to be able to";
        self.warning_at(&codes::UNUSABLE, &self.place(key), message, Some(hint.to_owned()));
    }

    fn start_tls(&self, settings: &Settings) {
        let Some(files) = &settings.http.tls else { return };
        let Err(why) = Tls::open(files.clone()) else { return };
        let is_of_key = match &why {
            TlsError::File { path, .. } | TlsError::Content { path, .. } => *path == files.key,
            TlsError::Unusable(_) => false,
        };
        let key = if is_of_key { "server_tls_key_path" } else { "server_tls_certificate_path" };
        match &why {
            TlsError::File { source, .. } if source.kind() == ErrorKind::PermissionDenied => self.not_by_us(key, why),
            _ => self.unusable(key, why),
        }
    }

    fn start_accounts(&self, settings: &Settings) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
        // Nobody is asked: a service account is only read.
        let refused = |json: &str| {
            let (bucket, credentials_json) = ("none".to_owned(), json.to_owned());
            let bucket = Bucket::Google { bucket, use_cdn_domain: false, credentials_json };
            RemoteUploader::new(&bucket, runtime.handle().clone()).err()
        };
        if let Some(bucket) = settings.artifacts.uploader.bucket()
            && let Err(why) = RemoteUploader::new(&bucket, runtime.handle().clone())
        {
            let key = match bucket {
                Bucket::Google { .. } => "google_application_credentials_json",
                Bucket::S3(_) => "snapshot_bucket_name",
            };
            self.unusable(key, why);
        }
        if let Some(AncillarySigner::GcpKms { credentials, .. }) = &settings.artifacts.ancillary_signer
            && settings.entities.types.contains(&Kind::CardanoDatabase)
            && let Some(why) = refused(credentials.json.expose())
        {
            let name = credentials.variable.escape_default();
            self.unusable("ancillary_files_signer_config", format!("the service account in {name}: {why}"));
        }
    }

    /// Whether the directory is there and can be written, or can be made; tells when not.
    fn start_directory(&self, key: &str, directory: &Path) -> bool {
        let nearest = &nearest_there(directory);
        if !nearest.is_dir() {
            self.unusable(key, format!("{} is no directory", nearest.display()));
            return false;
        }
        if access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
            self.not_by_us(key, format!("nothing can be written in {}", nearest.display()));
            return false;
        }
        true
    }

    fn start_database(&self, stores: &Path) {
        let path = stores.join(store::FILE);
        let version = match store::read_only::look(&path).and_then(|db| store::version(&db)) {
            Ok(version) => version,
            Err(StoreError::Absent { .. }) if !path.exists() => return,
            Err(why) => return self.unusable("data_stores_directory", format!("{}: {why}", path.display())),
        };
        if let Some(found) = version.filter(|found| *found != store::VERSION) {
            let known = store::VERSION;
            let why = format!("{} is of version {found}; this program knows version {known}", path.display());
            self.unusable("data_stores_directory", why);
        }
    }
}

/// The path itself, or the first above it that is there.
pub(crate) fn nearest_there(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(Path::new("/")).to_owned()
}
