//! Archives in a bucket: Google Cloud Storage, or anything that speaks S3.
//!
//! Spec: §1.3, §4.4. Names are `cardano-database/<part>/<file>`. What is in the bucket is asked whenever immutable archives are
//! to be there: somebody may have taken some away. A file is tried three times, five seconds apart. An upload is whole or not
//! there: large files go in parts that the bucket joins at the end. In Google's, each is then opened to everybody.

use super::acl::Acl;
use super::upload::{Part, UploadError, Uploader};
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, WriteMultipart};
use semel_ops::shutdown::Stop;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// How often a file is tried.
const ATTEMPTS: u32 = 3;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(5);

/// Bytes of one part of a large file. S3 takes at most 10,000 parts: 160 GB.
const PART_BYTES: usize = 16 * 1024 * 1024;

/// Parts of one file under way at once: 64 MiB of memory.
const PARTS_AT_ONCE: usize = 4;

/// Files under way at once.
const FILES_AT_ONCE: usize = 4;

/// One request, a part included. 16 MiB in this time is 1.1 Mbit/s.
const REQUEST_MAX: Duration = Duration::from_secs(120);

/// An S3-compatible bucket.
#[derive(Clone)]
pub struct S3 {
    /// Name of the bucket.
    pub bucket: String,
    /// Address of the service; none: Amazon's.
    pub endpoint: Option<String>,
    /// Region; `auto` or `us-east-1` where it means nothing.
    pub region: String,
    /// Access key.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Where clients find the bucket; none: `<endpoint>/<bucket>`.
    pub public_url: Option<String>,
}

/// Which bucket.
#[derive(Clone)]
pub enum Bucket {
    /// Google Cloud Storage.
    Google {
        /// `SNAPSHOT_BUCKET_NAME`
        bucket: String,
        /// `SNAPSHOT_USE_CDN_DOMAIN`: the bucket's name is a domain that serves it.
        use_cdn_domain: bool,
        /// `GOOGLE_APPLICATION_CREDENTIALS_JSON`: the content, not a path.
        credentials_json: String,
    },
    /// S3.
    S3(S3),
}

// Neither shows its secret.
impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("bucket", &self.bucket).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bucket::Google { bucket, .. } => f.debug_struct("Google").field("bucket", bucket).finish_non_exhaustive(),
            Bucket::S3(s3) => s3.fmt(f),
        }
    }
}

/// Uploads to a bucket.
pub struct RemoteUploader {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    name: String,
    base: String,
    pause: Duration,
    // Google's; none: the bucket itself says who reads.
    acl: Option<Acl>,
    // Names of immutable archives that are there, and perhaps not public; none: nobody looked yet.
    private: Mutex<Option<BTreeSet<String>>>,
}

impl fmt::Debug for RemoteUploader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteUploader").field("name", &self.name).field("base", &self.base).finish_non_exhaustive()
    }
}

impl RemoteUploader {
    /// For this bucket; transfers run on `runtime`, and [`Uploader::upload`] must be called from outside it.
    ///
    /// # Errors
    /// When a setting is wrong. Nobody is asked anything yet.
    pub fn new(bucket: &Bucket, runtime: Handle) -> Result<RemoteUploader, UploadError> {
        prepare_tls();
        let setting = |why: object_store::Error| UploadError::Setting(why.to_string());
        // Attempts are counted here, where the stop is seen.
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let client = ClientOptions::new().with_timeout(REQUEST_MAX);
        let (store, name, base, acl): (Arc<dyn ObjectStore>, _, _, _) = match bucket {
            Bucket::Google { bucket, use_cdn_domain, credentials_json } => {
                let store = GoogleCloudStorageBuilder::new()
                    .with_bucket_name(bucket)
                    .with_service_account_key(credentials_json)
                    .with_retry(retry)
                    .with_client_options(client.with_allow_http(true));
                let host = if *use_cdn_domain { "https://" } else { "https://storage.googleapis.com/" };
                let store = store.build().map_err(setting)?;
                let acl = Acl::new(bucket, credentials_json, Arc::clone(store.credentials()));
                let acl = acl.map_err(|why| UploadError::Setting(why.to_string()))?;
                (Arc::new(store), format!("gcp {bucket}"), format!("{host}{bucket}"), Some(acl))
            }
            Bucket::S3(s3) => {
                let amazon = format!("https://s3.{}.amazonaws.com", s3.region);
                let endpoint = s3.endpoint.clone().unwrap_or(amazon);
                let store = AmazonS3Builder::new()
                    .with_bucket_name(&s3.bucket)
                    .with_endpoint(&endpoint)
                    .with_region(&s3.region)
                    .with_access_key_id(&s3.access_key_id)
                    .with_secret_access_key(&s3.secret_access_key)
                    .with_retry(retry)
                    .with_client_options(client)
                    .with_allow_http(endpoint.starts_with("http://"));
                let base = format!("{}/{}", endpoint.trim_end_matches('/'), s3.bucket);
                let base = s3.public_url.as_ref().map_or(base, |url| url.trim_end_matches('/').to_owned());
                (Arc::new(store.build().map_err(setting)?), format!("s3 {}", s3.bucket), base, None)
            }
        };
        Ok(RemoteUploader { store, runtime, name, base, pause: PAUSE, acl, private: Mutex::new(None) })
    }

    /// With another time between two attempts.
    #[must_use]
    pub fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    fn private(&self) -> MutexGuard<'_, Option<BTreeSet<String>>> {
        self.private.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of `files` that are not in the bucket.
    fn absent<'a>(&self, files: &'a [PathBuf], stop: &Stop) -> Result<Vec<&'a PathBuf>, UploadError> {
        let prefix = key(Part::Immutable, "");
        let listed: BTreeSet<String> = self.attempts("the list of immutable archives", stop, || {
            let listing = async { self.store.list_with_delimiter(Some(&prefix)).await.map_err(|why| why.to_string()) };
            let names = |object: object_store::ObjectMeta| object.location.filename().map(ToOwned::to_owned);
            Ok(self.wait(stop, listing)?.objects.into_iter().filter_map(names).collect())
        })?;
        let (present, absent): (Vec<_>, Vec<_>) = files.iter().partition(|file| listed.contains(&file_name(file)));
        tracing::debug!(
            to = self.name,
            present = present.len(),
            absent = absent.len(),
            "immutable archives are compared"
        );
        self.open_present(&present, stop)?;
        Ok(absent)
    }

    /// Opens what is there and perhaps not public: what could not be opened before, and after a start the last that were
    /// under way when the program ended.
    fn open_present(&self, present: &[&PathBuf], stop: &Stop) -> Result<(), UploadError> {
        let last = present.iter().rev().take(FILES_AT_ONCE).map(|file| file_name(file));
        let private = self.private().get_or_insert_with(|| last.collect()).clone();
        for name in private {
            if present.iter().any(|file| file_name(file) == name) {
                self.open_to_all(Part::Immutable, &name, stop)?;
            }
            self.private().get_or_insert_default().remove(&name);
        }
        Ok(())
    }

    fn open_to_all(&self, part: Part, name: &str, stop: &Stop) -> Result<(), UploadError> {
        let Some(acl) = &self.acl else { return Ok(()) };
        let key = key(part, name);
        self.attempts(name, stop, || self.wait(stop, acl.open_to_all(key.as_ref())))
    }

    fn attempts<T>(
        &self,
        name: &str,
        stop: &Stop,
        mut attempt: impl FnMut() -> Result<T, String>,
    ) -> Result<T, UploadError> {
        let mut tried = 0;
        loop {
            if stop.is_stopped() {
                return Err(UploadError::Stopped);
            }
            tried += 1;
            match attempt() {
                Ok(done) => return Ok(done),
                Err(why) if tried == ATTEMPTS && !stop.is_stopped() => {
                    return Err(UploadError::Refused { name: name.to_owned(), why, attempts: tried });
                }
                Err(_) if stop.is_stopped() || stop.wait_timeout(self.pause) => return Err(UploadError::Stopped),
                Err(_) => {}
            }
        }
    }

    /// Waits for a transfer, or for the end: then whatever is under way is dropped.
    fn wait<T>(&self, stop: &Stop, transfer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let stopped = Arc::new(Notify::new());
        let notify = Arc::clone(&stopped);
        let _on_stop = stop.on_stop(move || notify.notify_one());
        self.runtime.block_on(async {
            tokio::select! {
                done = transfer => done,
                () = stopped.notified() => Err("stopped".to_owned()),
            }
        })
    }

    fn send(&self, part: Part, path: &Path, stop: &Stop) -> Result<(), UploadError> {
        let (name, began) = (file_name(path), Instant::now());
        self.attempts(&name, stop, || {
            let file = File::open(path).map_err(|why| format!("{}: {why}", path.display()))?;
            self.wait(stop, send(Arc::clone(&self.store), key(part, &name), file))
        })?;
        if part == Part::Immutable {
            self.private().get_or_insert_default().insert(name.clone());
        }
        self.open_to_all(part, &name, stop)?;
        if part == Part::Immutable {
            self.private().get_or_insert_default().remove(&name);
        }
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(to = self.name, %part, name, milliseconds, "uploaded");
        Ok(())
    }
}

/// Names ring as what TLS is made of, unless somebody has named another.
pub(crate) fn prepare_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A file in parts; a small one in one piece.
async fn send(store: Arc<dyn ObjectStore>, key: Key, mut file: File) -> Result<(), String> {
    let mut first = next(&mut file).map_err(|why| why.to_string())?;
    if first.len() < PART_BYTES {
        return store.put(&key, first.into()).await.map(|_| ()).map_err(|why| why.to_string());
    }
    let upload = store.put_multipart(&key).await.map_err(|why| why.to_string())?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    while !first.is_empty() {
        let room = upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|why| why.to_string());
        let more = room.and_then(|()| {
            upload.write(&first);
            next(&mut file).map_err(|why| why.to_string())
        });
        match more {
            Ok(bytes) => first = bytes,
            Err(why) => {
                // The parts that are there cost money until they are given up.
                let _ = upload.abort().await;
                return Err(why);
            }
        }
    }
    upload.finish().await.map(|_| ()).map_err(|why| why.to_string())
}

fn next(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PART_BYTES);
    file.take(PART_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn key(part: Part, name: &str) -> Key {
    Key::from(format!("cardano-database/{part}/{name}"))
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Uploader for RemoteUploader {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn uri(&self, part: Part, file_name: &str) -> String {
        format!("{}/cardano-database/{part}/{file_name}", self.base)
    }

    fn upload(&self, part: Part, files: &[PathBuf], stop: &Stop) -> Result<(), UploadError> {
        let absent = if part == Part::Immutable { self.absent(files, stop)? } else { files.iter().collect() };
        let waiting = Mutex::new(absent.iter());
        let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next().copied();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..FILES_AT_ONCE.min(absent.len()))
                .map(|_| {
                    scope.spawn(|| {
                        while let Some(path) = take() {
                            self.send(part, path, stop)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            let ended = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(UploadError::Setting("a thread of the upload died".to_owned())))
            });
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }

    fn serves_directory(&self) -> bool {
        false
    }
}
