//! An Ed25519 key in Google Cloud KMS, as a signing backend of the guard.
//!
//! Spec: §1.3 (`ANCILLARY_FILES_SIGNER_CONFIG`, `gcp-kms`). Two calls of the REST API: the public key once, and one
//! `asymmetricSign` per manifest. For Ed25519 (`EC_SIGN_ED25519`) the service signs the message itself, not a digest of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::VerifyingKey;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};
use semel_guard::{Admitted, Algorithm, PublicKey, SignError, Signature, Signer};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;
use tokio::runtime::Handle;

/// Where the service is.
const SERVICE: &str = "https://cloudkms.googleapis.com";

/// One call, from its beginning to its end.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Largest answer that is read. A real one has about 500 bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a public key of Ed25519 as DER; the key itself is the last 32.
const DER_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A version of a key in Google Cloud KMS.
pub struct CloudKms {
    runtime: Handle,
    client: reqwest::Client,
    credentials: GcpCredentialProvider,
    // `<service>/v1/projects/…/cryptoKeyVersions/N`
    resource: String,
    verifying: VerifyingKey,
    public: PublicKey,
}

impl fmt::Debug for CloudKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudKms").field("resource", &self.resource).finish_non_exhaustive()
    }
}

impl CloudKms {
    /// The key version `resource_name` (`projects/…/cryptoKeyVersions/N`), with the content of a service account's JSON. Asks
    /// for the public key. Calls run on `runtime`; neither this nor signing may be called from inside it.
    ///
    /// # Errors
    /// When the settings are wrong, the service does not answer, or the key is not one of Ed25519.
    pub fn open(resource_name: &str, credentials_json: &str, runtime: Handle) -> Result<CloudKms, SignError> {
        CloudKms::open_at(SERVICE, resource_name, credentials_json, runtime)
    }

    /// The same at another address.
    ///
    /// # Errors
    /// As [`CloudKms::open`].
    pub fn open_at(
        service: &str,
        resource_name: &str,
        credentials_json: &str,
        runtime: Handle,
    ) -> Result<CloudKms, SignError> {
        super::remote::prepare_tls();
        // A bucket is named because the builder wants one; only the account's token is used.
        let store =
            GoogleCloudStorageBuilder::new().with_bucket_name("none").with_service_account_key(credentials_json);
        let store = store.build().map_err(failed)?;
        let client = reqwest::Client::builder().timeout(CALL_MAX).build().map_err(failed)?;
        let resource = format!("{service}/v1/{resource_name}");
        let (asking, credentials) = (client.clone(), store.credentials().clone());
        let answer = runtime.block_on(call(&asking, &credentials, &format!("{resource}/publicKey"), None))?;
        let verifying = public_key(&answer)?;
        let public = PublicKey::new(Algorithm::Ed25519, verifying.as_bytes()).map_err(failed)?;
        Ok(CloudKms { runtime, client, credentials, resource, verifying, public })
    }

    /// The key that clients check with.
    pub fn verification_key(&self) -> &VerifyingKey {
        &self.verifying
    }
}

impl Signer for CloudKms {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn provider(&self) -> &str {
        "gcp-kms"
    }

    fn sign(&self, message: Admitted<'_>) -> Result<Signature, SignError> {
        let body = json!({ "data": BASE64.encode(message.bytes()) }).to_string();
        let address = format!("{}:asymmetricSign", self.resource);
        let answer = self.runtime.block_on(call(&self.client, &self.credentials, &address, Some(body)))?;
        let signature =
            answer.get("signature").and_then(Value::as_str).ok_or_else(|| failed("no signature in the answer"))?;
        let signature: [u8; 64] = BASE64
            .decode(signature)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| failed("the signature has not 64 bytes"))?;
        let checked = ed25519_dalek::Signature::from_bytes(&signature);
        self.verifying
            .verify_strict(message.bytes(), &checked)
            .map_err(|_| failed("the signature is not of this key and message"))?;
        Signature::new(&signature).map_err(failed)
    }
}

fn failed(why: impl fmt::Display) -> SignError {
    SignError { provider: "gcp-kms".to_owned(), reason: why.to_string() }
}

async fn call(
    client: &reqwest::Client,
    credentials: &GcpCredentialProvider,
    address: &str,
    body: Option<String>,
) -> Result<Value, SignError> {
    let token = credentials.get_credential().await.map_err(failed)?;
    let request = match body {
        Some(body) => client.post(address).header("content-type", "application/json").body(body),
        None => client.get(address),
    };
    let mut answer = request.bearer_auth(&token.bearer).send().await.map_err(failed)?;
    let mut bytes = Vec::new();
    while let Some(more) = answer.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&more);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(failed("the answer is too long"));
        }
    }
    if !answer.status().is_success() {
        let text: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
        return Err(failed(format!("{}: {text}", answer.status())));
    }
    serde_json::from_slice(&bytes).map_err(failed)
}

/// The key in the PEM of an answer.
fn public_key(answer: &Value) -> Result<VerifyingKey, SignError> {
    let pem = answer.get("pem").and_then(Value::as_str).ok_or_else(|| failed("no public key in the answer"))?;
    let inside: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = BASE64.decode(inside).map_err(|_| failed("the public key is no PEM"))?;
    let key = der.strip_prefix(&DER_PREFIX).and_then(|key| <[u8; 32]>::try_from(key).ok());
    let key = key.ok_or_else(|| failed("the key is not one of Ed25519 (EC_SIGN_ED25519)"))?;
    VerifyingKey::from_bytes(&key).map_err(failed)
}
