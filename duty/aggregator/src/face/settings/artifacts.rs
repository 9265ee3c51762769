//! Settings about the archives of the Cardano database.

use super::layers::Wiped;
use super::read::{Object, Reader, variable};
use crate::face::args::SecretText;
use crate::face::codes;
use crate::host::artifact::{Bucket, S3};
use std::path::PathBuf;

/// Where archives go.
#[derive(Debug, Clone)]
pub enum Uploader {
    /// Served by this aggregator, from its own disk.
    Local,
    /// A bucket at Google.
    Gcp {
        /// Its name.
        bucket: String,
        /// The name is a domain of its own: URLs are `https://<bucket>/…`.
        use_cdn_domain: bool,
        /// Service account, JSON.
        credentials: SecretText,
    },
    /// A bucket of a service that speaks S3.
    S3 {
        /// Its name.
        bucket: String,
        /// The service; none: Amazon's.
        endpoint: Option<String>,
        /// Its region.
        region: String,
        /// Access key.
        access_key_id: String,
        /// Its secret.
        secret_access_key: SecretText,
        /// Where clients find it; none: the bucket at the service.
        public_url: Option<String>,
    },
}

impl Uploader {
    /// The bucket, where it is one.
    pub fn bucket(&self) -> Option<Bucket> {
        match self {
            Self::Local => None,
            Self::Gcp { bucket, use_cdn_domain, credentials } => Some(Bucket::Google {
                bucket: bucket.clone(),
                use_cdn_domain: *use_cdn_domain,
                credentials_json: credentials.expose().to_owned(),
            }),
            Self::S3 { bucket, endpoint, region, access_key_id, secret_access_key, public_url } => {
                Some(Bucket::S3(S3 {
                    bucket: bucket.clone(),
                    endpoint: endpoint.clone(),
                    region: region.clone(),
                    access_key_id: access_key_id.clone(),
                    secret_access_key: secret_access_key.expose().to_owned(),
                    public_url: public_url.clone(),
                }))
            }
        }
    }
}

/// How archives are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Zstandard.
    Zstandard {
        /// -131,072 to 22; 0: that of the library.
        level: i32,
        /// Threads; 0: the one that asks.
        workers: u32,
    },
    /// gzip, which clients of today reject. Only on explicit demand.
    Gzip,
}

/// Credentials of the key service.
#[derive(Debug, Clone)]
pub struct KmsCredentials {
    /// Variable that they came from.
    pub variable: String,
    /// Service account, JSON.
    pub json: SecretText,
}

/// Who signs ancillary files.
#[derive(Debug, Clone)]
pub enum AncillarySigner {
    /// A key that is given here, JSON-hex.
    SecretKey(SecretText),
    /// A key at Google's key service.
    GcpKms {
        /// `projects/…/cryptoKeyVersions/N`
        resource_name: String,
        /// Who asks.
        credentials: KmsCredentials,
    },
}

impl AncillarySigner {
    /// The key behind the guard, when it is one that is given here.
    ///
    /// # Errors
    /// The text is no key.
    pub fn key(&self) -> Option<Result<semel_guard::Key, crate::host::keys::KeysError>> {
        match self {
            Self::SecretKey(text) => Some(crate::host::keys::secret_key(text.expose())),
            Self::GcpKms { .. } => None,
        }
    }
}

/// Everything about archives. Uploader and signer are there when CardanoDatabase is certified.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// Directory of artifacts.
    pub directory: PathBuf,
    /// How they are compressed.
    pub compression: Compression,
    /// Where they go; local when no Cardano database is certified.
    pub uploader: Uploader,
    /// Who signs ancillary files.
    pub ancillary_signer: Option<AncillarySigner>,
}

/// Kinds of places for archives.
#[derive(Clone, Copy)]
enum Kind {
    Gcp,
    S3,
    Local,
}

impl Reader<'_> {
    /// `is_certified`: CardanoDatabase is among the types.
    pub(super) fn artifacts(&self, is_certified: bool) -> Option<Artifacts> {
        let directory = self.text("snapshot_directory").map(|said| PathBuf::from(said.as_str()));
        let compression = self.compression();
        let uploader = self.uploader(is_certified);
        let ancillary_signer = self.ancillary_signer(is_certified);
        Some(Artifacts {
            directory: directory?,
            compression: compression?,
            uploader: uploader?,
            ancillary_signer: ancillary_signer.ok()?,
        })
    }

    fn compression(&self) -> Option<Compression> {
        let key = "snapshot_compression_algorithm";
        let gzip = self.choice(key, &[("zstandard", false), ("gzip", true)]);
        let is_demanded = self.flag("snapshot_gzip_compatibility");
        let level = self.signed("zstandard_parameters.level", -131_072..=22);
        let workers = self.number("zstandard_parameters.number_of_workers", 0..=256);
        if gzip? && is_demanded? {
            return Some(Compression::Gzip);
        }
        if gzip? {
            let message = format!("{}: clients of today reject gzip, zstandard is written instead", variable(key));
            self.warning(&codes::RETIRED, key, message);
        }
        let (level, workers) = (level?, u32::try_from(workers?).ok()?);
        Some(Compression::Zstandard { level, workers })
    }

    fn uploader(&self, is_certified: bool) -> Option<Uploader> {
        let kinds = [("gcp", Kind::Gcp), ("s3", Kind::S3), ("local", Kind::Local)];
        let kind = self.choice("snapshot_uploader_type", &kinds);
        let use_cdn_domain = self.flag("snapshot_use_cdn_domain");
        match kind? {
            Kind::Gcp if is_certified => self.google(use_cdn_domain?),
            Kind::S3 if is_certified => self.s3(),
            _ => Some(Uploader::Local),
        }
    }

    fn needed(&self, keys: &[&str], why: &str) {
        for key in keys.iter().filter(|key| self.entry(key).is_none()) {
            let hint = "SNAPSHOT_UPLOADER_TYPE=local serves archives from this host's disk";
            self.missing(key, why, Some(hint.to_owned()));
        }
    }

    fn s3(&self) -> Option<Uploader> {
        self.needed(
            &["snapshot_bucket_name", "aws_access_key_id", "aws_secret_access_key"],
            "archives go to a bucket of S3",
        );
        let text = |key| self.text(key).map(|said| said.to_string());
        let url = |key| {
            let Some(said) = text(key) else { return Some(None) };
            if (said.starts_with("https://") || said.starts_with("http://")) && !said.contains(['?', '#', '@']) {
                return Some(Some(said));
            }
            self.error(&codes::OUT_OF_RANGE, key, format!("{} is no http or https address", variable(key)));
            None
        };
        let (endpoint, public_url) = (url("aws_endpoint_url"), url("snapshot_public_url"));
        Some(Uploader::S3 {
            bucket: text("snapshot_bucket_name")?,
            access_key_id: text("aws_access_key_id")?,
            secret_access_key: SecretText::new(self.text("aws_secret_access_key")?.as_str()),
            region: text("aws_region")?,
            endpoint: endpoint?,
            public_url: public_url?,
        })
    }

    fn google(&self, use_cdn_domain: bool) -> Option<Uploader> {
        let (bucket, credentials) = ("snapshot_bucket_name", "google_application_credentials_json");
        self.needed(&[bucket, credentials], "archives go to a bucket at Google");
        let (bucket, credentials) = (self.text(bucket), self.text(credentials));
        if credentials.as_ref().is_some_and(|json| !is_json_object(json)) {
            let key = "google_application_credentials_json";
            let message = format!("{} is no JSON object", variable(key));
            self.error_with(&codes::WRONG_SHAPE, key, message, "it takes the content of the file, not its path");
            return None;
        }
        let credentials = SecretText::new(credentials?.as_str());
        Some(Uploader::Gcp { bucket: bucket?.to_string(), use_cdn_domain, credentials })
    }

    fn ancillary_signer(&self, is_certified: bool) -> Result<Option<AncillarySigner>, ()> {
        let key = "ancillary_files_signer_config";
        if self.entry(key).is_none() {
            if is_certified {
                let hint = r#"ANCILLARY_FILES_SIGNER_CONFIG={"type": "secret-key", "secret_key": "<hex>"}"#;
                self.missing(key, "clients refuse ancillary files without a signature", Some(hint.to_owned()));
                return Err(());
            }
            return Ok(None);
        }
        let object = self.object(key).ok_or(())?;
        let kind = object.get("type").and_then(serde_json::Value::as_str).unwrap_or_default();
        match kind {
            "secret-key" => {
                let [_, secret] = self.fields(key, &object, ["type", "secret_key"], &[]).ok_or(())?;
                // Whoever certifies no database may leave the guide's words in its place.
                if is_certified && crate::host::keys::secret_key(&secret).is_err() {
                    let message = format!("`secret_key` in {} is no key", variable(key));
                    self.error_in(&codes::NOT_A_KEY, key, "secret_key", message);
                    return Err(());
                }
                Ok(Some(AncillarySigner::SecretKey(SecretText::new(secret.as_str()))))
            }
            "gcp-kms" => self.kms(key, &object, is_certified),
            _ => {
                let message = format!("`type` in {} is neither secret-key nor gcp-kms", variable(key));
                self.error_in(&codes::WRONG_SHAPE, key, "type", message);
                Err(())
            }
        }
    }

    fn kms(&self, key: &str, object: &Object, is_certified: bool) -> Result<Option<AncillarySigner>, ()> {
        let [_, resource_name] =
            self.fields(key, object, ["type", "resource_name"], &["credentials_json_env_var"]).ok_or(())?;
        let named = object.get("credentials_json_env_var").and_then(serde_json::Value::as_str);
        let name = named.unwrap_or("GOOGLE_APPLICATION_CREDENTIALS_JSON");
        let json = self.text(&name.to_lowercase());
        let json = json.or_else(|| semel_ops::env::var(name).map(zeroize::Zeroizing::new));
        let Some(json) = json else {
            if is_certified {
                let message =
                    format!("{} names the variable {}, which is not set", variable(key), name.escape_default());
                self.error(&codes::CONTRADICTION, key, message);
                return Err(());
            }
            return Ok(None);
        };
        let is_version = resource_name.starts_with("projects/") && resource_name.contains("/cryptoKeyVersions/");
        if !is_version {
            let message = format!("`resource_name` in {} is not projects/…/cryptoKeyVersions/N", variable(key));
            self.error_in(&codes::WRONG_SHAPE, key, "resource_name", message);
            return Err(());
        }
        let credentials = KmsCredentials { variable: name.to_owned(), json: SecretText::new(json.as_str()) };
        Ok(Some(AncillarySigner::GcpKms { resource_name: resource_name.to_string(), credentials }))
    }
}

fn is_json_object(text: &str) -> bool {
    serde_json::from_str(text).map(Wiped).is_ok_and(|value| value.0.is_object())
}
