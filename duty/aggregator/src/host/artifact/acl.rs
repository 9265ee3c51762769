//! Objects in Google Cloud Storage that everybody may read.
//!
//! An object belongs to whoever uploaded it, and nobody else reads it until an entry of its access control list says so:
//! one call of the JSON API for each object. A bucket with uniform access has no such lists and refuses the call; who reads
//! there is for the bucket's own policy, and that is said once.

use object_store::gcp::GcpCredentialProvider;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where the service is, unless the account's file names another place.
const SERVICE: &str = "https://storage.googleapis.com";

/// One call, from its beginning to its end.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Bytes of a refusal that are read, and characters that are told.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
const REFUSAL_CHARS_MAX: usize = 200;

/// What the service says of a bucket that has no lists.
const UNIFORM: &str = "uniform bucket-level access";

/// The lists of one bucket.
pub(super) struct Acl {
    client: reqwest::Client,
    credentials: GcpCredentialProvider,
    bucket: String,
    // `<service>/storage/v1/b/<bucket>/o`
    objects: String,
    is_uniform: AtomicBool,
}

impl Acl {
    /// Of this bucket, with the content of a service account's JSON and the tokens that it gives.
    pub(super) fn new(
        bucket: &str,
        credentials_json: &str,
        credentials: GcpCredentialProvider,
    ) -> Result<Acl, reqwest::Error> {
        let account: Value = serde_json::from_str(credentials_json).unwrap_or_default();
        let service = account.get("gcs_base_url").and_then(Value::as_str).unwrap_or(SERVICE).trim_end_matches('/');
        Ok(Acl {
            client: reqwest::Client::builder().timeout(CALL_MAX).build()?,
            credentials,
            bucket: bucket.to_owned(),
            objects: format!("{service}/storage/v1/b/{}/o", escaped(bucket)),
            is_uniform: AtomicBool::new(false),
        })
    }

    /// Lets everybody read an object. What a list says already may be said again.
    pub(super) async fn open_to_all(&self, object: &str) -> Result<(), String> {
        if self.is_uniform.load(Ordering::Relaxed) {
            return Ok(());
        }
        let token = self.credentials.get_credential().await.map_err(|why| why.to_string())?;
        let address = format!("{}/{}/acl", self.objects, escaped(object));
        let request = self.client.post(address).header("content-type", "application/json");
        let request = request.body(r#"{"entity":"allUsers","role":"READER"}"#).bearer_auth(&token.bearer);
        let mut answer = request.send().await.map_err(|why| why.without_url().to_string())?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let mut said = Vec::new();
        while let Ok(Some(more)) = answer.chunk().await {
            said.extend_from_slice(&more);
            if said.len() > REFUSAL_BYTES_MAX {
                break;
            }
        }
        let said = String::from_utf8_lossy(&said);
        if status.is_client_error() && said.to_lowercase().contains(UNIFORM) {
            if !self.is_uniform.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    bucket = self.bucket,
                    grant = "allUsers: Storage Object Viewer",
                    "this bucket has uniform access: clients can download only if the bucket itself grants that to everybody"
                );
            }
            return Ok(());
        }
        let said: String = said.chars().take(REFUSAL_CHARS_MAX).collect();
        Err(format!("it is uploaded and not public: {status}: {}", said.trim()))
    }
}

/// A name as one part of a path.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut out, byte| {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _infallible = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}
