//! Uploads over HTTP to a bucket, and the key in a cloud service, against a server on loopback that speaks their protocols.
//!
//! The server is Semel's own stand-in for the parts of S3, of Google Cloud Storage's XML interface and of Cloud KMS that are
//! used. What it does not show: TLS and the exchange of a service account's key for a token.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop")]

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use semel_aggregator::host::artifact::{Bucket, CloudKms, Part, RemoteUploader, S3, UploadError, Uploader};
use semel_guard::{Benign, ChainId, Key};
use semel_ops::shutdown::{Stop, StopReason};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, u32), Vec<u8>>,
    requests: Vec<String>,
    // So many requests fail first.
    failing: u32,
    unsigned: usize,
    // Objects that everybody may read.
    public: BTreeSet<String>,
    // What a bucket says that has no lists, or whose lists this account may not change.
    refuses: Option<(StatusCode, &'static str)>,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Inner>>);

impl Server {
    fn start(&self, runtime: &Runtime) -> String {
        let app = Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::max(1 << 26))
            .with_state(self.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    fn requests(&self, method: &str) -> usize {
        self.0.lock().unwrap().requests.iter().filter(|request| request.starts_with(method)).count()
    }
}

async fn answer(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let mut inner = server.0.lock().unwrap();
    inner.requests.push(format!("{method} {uri}"));
    if inner.failing > 0 {
        inner.failing -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, [("etag", "")], "later".to_owned());
    }
    if !headers.contains_key("authorization") {
        inner.unsigned += 1;
    }
    let (path, query) = (decoded(uri.path()), uri.query().unwrap_or_default().to_owned());
    if let Some(object) =
        uri.path().strip_prefix("/storage/v1/b/snapshots/o/").and_then(|rest| rest.strip_suffix("/acl"))
    {
        assert_eq!((&method, &body[..]), (&Method::POST, &br#"{"entity":"allUsers","role":"READER"}"#[..]));
        assert!(!object.contains('/'), "the name of an object is one part of the path: {object}");
        if let Some((status, why)) = inner.refuses {
            return (status, [("etag", "")], why.to_owned());
        }
        inner.public.insert(format!("/snapshots/{}", decoded(object)));
        return (StatusCode::OK, [("etag", "")], "{}".to_owned());
    }
    let has = |name: &str| query.split('&').any(|pair| pair.split('=').next() == Some(name));
    let text = match (method, has("uploads"), has("uploadId")) {
        (Method::GET, ..) => listing(&inner, &path),
        (Method::POST, true, _) => {
            "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>7</UploadId></InitiateMultipartUploadResult>".to_owned()
        }
        (Method::PUT, _, true) => {
            let number = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).unwrap().parse().unwrap();
            inner.parts.insert((path, number), body.into());
            String::new()
        }
        (Method::POST, _, true) => {
            let of_this = std::mem::take(&mut inner.parts).into_iter().filter(|((of, _), _)| *of == path);
            let whole = of_this.flat_map(|(_, bytes)| bytes).collect();
            inner.objects.insert(path, whole);
            "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>".to_owned()
        }
        (Method::PUT, ..) => {
            inner.objects.insert(path, body.into());
            String::new()
        }
        _ => return (StatusCode::BAD_REQUEST, [("etag", "")], String::new()),
    };
    (StatusCode::OK, [("etag", "\"e\"")], text)
}

/// Google's client escapes whatever is not a letter or a digit.
fn decoded(path: &str) -> String {
    ["%2D-", "%2E.", "%5F_"]
        .iter()
        .fold(path.to_owned(), |path, code| path.replace(&code[..3], &code[3..]))
        .replace("%2F", "/")
}

fn listing(inner: &Inner, bucket: &str) -> String {
    let contents: String = inner
        .objects
        .iter()
        .filter_map(|(path, bytes)| Some((path.strip_prefix(bucket.trim_end_matches('/'))?.trim_start_matches('/'), bytes)))
        .map(|(key, bytes)| {
            let size = bytes.len();
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag><Size>{size}</Size></Contents>"
            )
        })
        .collect();
    format!("<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>")
}

fn google_credentials(address: &str) -> String {
    format!(
        r#"{{"gcs_base_url":"{address}","disable_oauth":true,"client_email":"x@example.com","private_key":"none","private_key_id":"none"}}"#
    )
}

fn buckets(address: &str) -> [Bucket; 2] {
    let s3 = S3 {
        bucket: "snapshots".to_owned(),
        endpoint: Some(address.to_owned()),
        region: "auto".to_owned(),
        access_key_id: "id".to_owned(),
        secret_access_key: "secret".to_owned(),
        public_url: Some("https://cdn.example.com/".to_owned()),
    };
    let google = Bucket::Google {
        bucket: "snapshots".to_owned(),
        use_cdn_domain: false,
        credentials_json: google_credentials(address),
    };
    [Bucket::S3(s3), google]
}

fn files(directory: &tempfile::TempDir, count: u64) -> Vec<PathBuf> {
    let files = (0..count).map(|number| {
        let path = directory.path().join(format!("{number:05}.tar.zst"));
        fs::write(&path, format!("archive {number}")).unwrap();
        path
    });
    files.collect()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn immutable_archives_that_are_in_the_bucket_are_not_sent_again() {
    let runtime = runtime();
    for which in 0..2 {
        let (server, stop, directory) = (Server::default(), Stop::new(), tempfile::tempdir().unwrap());
        let bucket = &buckets(&server.start(&runtime))[which];
        let files = files(&directory, 9);
        let uploader = RemoteUploader::new(bucket, runtime.handle().clone()).unwrap();
        uploader.upload(Part::Immutable, &files[..5], &stop).unwrap();
        assert_eq!(server.requests("PUT"), 5, "{bucket:?}");
        let again = RemoteUploader::new(bucket, runtime.handle().clone()).unwrap();
        again.upload(Part::Immutable, &files, &stop).unwrap();
        again.upload(Part::Immutable, &files, &stop).unwrap();
        assert_eq!((server.requests("PUT"), server.requests("GET")), (9, 3), "{bucket:?}");
        // Somebody takes one away: it is noticed without a new start.
        server.0.lock().unwrap().objects.remove("/snapshots/cardano-database/immutable/00004.tar.zst");
        again.upload(Part::Immutable, &files, &stop).unwrap();
        assert_eq!(server.requests("PUT"), 10, "{bucket:?}");
        let names = (0..9).map(|number| format!("/snapshots/cardano-database/immutable/{number:05}.tar.zst"));
        assert_eq!(server.names(), names.collect::<Vec<_>>());
        let inner = server.0.lock().unwrap();
        assert_eq!(inner.objects.values().next().unwrap(), b"archive 0");
        // Google's client has no token here, and then signs nothing.
        assert!(which == 1 || inner.unsigned == 0);
    }
}

#[test]
fn a_large_file_goes_in_parts_and_arrives_whole() {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("preview-e1-i2.ancillary.tar.zst");
    let content: Vec<u8> = (0..40_000_000u32).map(|n| (n / 7) as u8).collect();
    fs::write(&path, &content).unwrap();
    for which in 0..2 {
        let server = Server::default();
        let bucket = &buckets(&server.start(&runtime))[which];
        let uploader = RemoteUploader::new(bucket, runtime.handle().clone()).unwrap();
        uploader.upload(Part::Ancillary, std::slice::from_ref(&path), &Stop::new()).unwrap();
        assert_eq!(server.requests("PUT"), 3, "{bucket:?}");
        let inner = server.0.lock().unwrap();
        let (name, sent) = inner.objects.iter().next().unwrap();
        assert_eq!(name, "/snapshots/cardano-database/ancillary/preview-e1-i2.ancillary.tar.zst");
        assert!(*sent == content, "{bucket:?}");
    }
}

#[test]
fn what_is_uploaded_to_google_is_public_whatever_its_size() {
    let runtime = runtime();
    let (server, stop, directory) = (Server::default(), Stop::new(), tempfile::tempdir().unwrap());
    let [s3, google] = &buckets(&server.start(&runtime));
    let large = directory.path().join("large.tar.zst");
    fs::write(&large, vec![7; 20_000_000]).unwrap();
    let mut files = files(&directory, 6);
    files.push(large);
    RemoteUploader::new(s3, runtime.handle().clone()).unwrap().upload(Part::Digests, &files, &stop).unwrap();
    assert!(server.0.lock().unwrap().public.is_empty(), "an S3 bucket has its own policy");
    server.0.lock().unwrap().objects.clear();
    let uploader = RemoteUploader::new(google, runtime.handle().clone()).unwrap();
    uploader.upload(Part::Immutable, &files, &stop).unwrap();
    uploader.upload(Part::Digests, &files, &stop).unwrap();
    let inner = server.0.lock().unwrap();
    assert_eq!(inner.public.iter().collect::<Vec<_>>(), inner.objects.keys().collect::<Vec<_>>());
}

#[test]
fn what_could_not_be_made_public_is_made_so_at_the_next_attempt_and_after_a_start() {
    let runtime = runtime();
    for is_started_anew in [false, true] {
        let (server, stop, directory) = (Server::default(), Stop::new(), tempfile::tempdir().unwrap());
        let google = &buckets(&server.start(&runtime))[1];
        let files = files(&directory, 2);
        let new = || {
            let uploader = RemoteUploader::new(google, runtime.handle().clone()).unwrap();
            uploader.with_pause(Duration::from_millis(1))
        };
        let uploader = new();
        server.0.lock().unwrap().refuses = Some((StatusCode::FORBIDDEN, "no storage.objects.setIamPolicy access"));
        match uploader.upload(Part::Immutable, &files, &stop) {
            Err(UploadError::Refused { why, .. }) => assert!(why.contains("setIamPolicy"), "{why}"),
            other => panic!("{other:?}"),
        }
        assert_eq!((server.requests("PUT"), server.0.lock().unwrap().public.len()), (2, 0));
        server.0.lock().unwrap().refuses = None;
        let uploader = if is_started_anew { new() } else { uploader };
        uploader.upload(Part::Immutable, &files, &stop).unwrap();
        assert_eq!((server.requests("PUT"), server.0.lock().unwrap().public.len()), (2, 2), "nothing is sent twice");
    }
}

#[test]
fn a_bucket_with_uniform_access_is_asked_once_and_used_all_the_same() {
    let runtime = runtime();
    let (server, stop, directory) = (Server::default(), Stop::new(), tempfile::tempdir().unwrap());
    let google = &buckets(&server.start(&runtime))[1];
    let files = files(&directory, 1);
    let why = "Cannot insert legacy ACL for an object when uniform bucket-level access is enabled.";
    server.0.lock().unwrap().refuses = Some((StatusCode::BAD_REQUEST, why));
    let uploader = RemoteUploader::new(google, runtime.handle().clone()).unwrap();
    uploader.upload(Part::Digests, &files, &stop).unwrap();
    uploader.upload(Part::Ancillary, &files, &stop).unwrap();
    assert_eq!((server.requests("PUT"), server.requests("POST")), (2, 1));
}

#[test]
fn it_is_tried_three_times_and_a_pulled_stop_ends_the_pause() {
    let runtime = runtime();
    for which in 0..2 {
        let (server, directory) = (Server::default(), tempfile::tempdir().unwrap());
        let bucket = &buckets(&server.start(&runtime))[which];
        let files = files(&directory, 1);
        let uploader =
            RemoteUploader::new(bucket, runtime.handle().clone()).unwrap().with_pause(Duration::from_millis(1));
        server.0.lock().unwrap().failing = 2;
        uploader.upload(Part::Digests, &files, &Stop::new()).unwrap();
        assert_eq!(server.requests("PUT"), 3, "{bucket:?}");
        server.0.lock().unwrap().failing = 3;
        match uploader.upload(Part::Digests, &files, &Stop::new()) {
            Err(UploadError::Refused { name, attempts: 3, why }) => {
                assert_eq!(name, "00000.tar.zst");
                assert!(!why.contains("secret"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        server.0.lock().unwrap().failing = 100;
        let patient =
            RemoteUploader::new(bucket, runtime.handle().clone()).unwrap().with_pause(Duration::from_secs(600));
        let (stop, started) = (Stop::new(), Instant::now());
        let pull = stop.clone();
        let puller = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            pull.stop(StopReason::Asked);
        });
        assert!(matches!(patient.upload(Part::Digests, &files, &stop), Err(UploadError::Stopped)));
        puller.join().unwrap();
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_bucket_that_never_answers_does_not_hold_up_the_end() {
    let runtime = runtime();
    let silent = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let files = files(&directory, 2);
    for bucket in &buckets(&format!("http://{}", silent.local_addr().unwrap())) {
        let uploader = RemoteUploader::new(bucket, runtime.handle().clone()).unwrap();
        for part in [Part::Immutable, Part::Digests] {
            let (stop, started) = (Stop::new(), Instant::now());
            std::thread::scope(|scope| {
                let upload = scope.spawn(|| uploader.upload(part, &files, &stop));
                std::thread::sleep(Duration::from_millis(100));
                assert!(!upload.is_finished());
                stop.stop(StopReason::Asked);
                assert!(matches!(upload.join().unwrap(), Err(UploadError::Stopped)));
            });
            assert!(started.elapsed() < Duration::from_secs(20));
        }
    }
}

#[test]
fn clients_are_sent_to_the_address_that_the_settings_name() {
    let runtime = runtime();
    let uri = |bucket: &Bucket| {
        let uploader = RemoteUploader::new(bucket, runtime.handle().clone()).unwrap();
        uploader.uri(Part::Immutable, "{immutable_file_number}.tar.zst")
    };
    let path = "cardano-database/immutable/{immutable_file_number}.tar.zst";
    let [s3, google] = buckets("http://127.0.0.1:1");
    assert_eq!(uri(&s3), format!("https://cdn.example.com/{path}"));
    assert_eq!(uri(&google), format!("https://storage.googleapis.com/snapshots/{path}"));
    let Bucket::Google { credentials_json, .. } = google else { panic!() };
    assert!(!format!("{s3:?}").contains("secret"));
    let bucket = "cdn.example.com".to_owned();
    let cdn = Bucket::Google { bucket, use_cdn_domain: true, credentials_json };
    assert_eq!(uri(&cdn), format!("https://cdn.example.com/{path}"));
    assert!(!format!("{cdn:?}").contains("private_key"));
    let wrong = Bucket::Google { bucket: "b".to_owned(), use_cdn_domain: true, credentials_json: "{".to_owned() };
    assert!(matches!(RemoteUploader::new(&wrong, runtime.handle().clone()), Err(UploadError::Setting(_))));
}

const RESOURCE: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1";

/// Cloud KMS with one key; `signs_with` makes the signatures.
fn kms(runtime: &Runtime, shown: &SigningKey, signs_with: SigningKey) -> String {
    let mut der = hex::decode("302a300506032b6570032100").unwrap();
    der.extend(shown.verifying_key().as_bytes());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(der));
    let app = Router::new().fallback(move |method: Method, uri: Uri, body: Bytes| {
        let (pem, key) = (pem.clone(), signs_with.clone());
        async move {
            let path = uri.path().strip_prefix("/v1/").unwrap_or_default().to_owned();
            if method == Method::GET && path == format!("{RESOURCE}/publicKey") {
                return (StatusCode::OK, serde_json::json!({ "pem": pem, "algorithm": "EC_SIGN_ED25519" }).to_string());
            }
            if method == Method::POST && path == format!("{RESOURCE}:asymmetricSign") {
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let message = BASE64.decode(body["data"].as_str().unwrap()).unwrap();
                let signature = BASE64.encode(key.sign(&message).to_bytes());
                return (StatusCode::OK, serde_json::json!({ "signature": signature }).to_string());
            }
            (StatusCode::NOT_FOUND, "no such key".to_owned())
        }
    });
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[test]
fn a_key_in_the_cloud_signs_behind_the_guard_and_is_not_believed_blindly() {
    let runtime = runtime();
    let (key, other) = (SigningKey::from_bytes(&[3; 32]), SigningKey::from_bytes(&[4; 32]));
    let open = |address: &str, resource: &str| {
        CloudKms::open_at(address, resource, &google_credentials(address), runtime.handle().clone())
    };
    let honest = kms(&runtime, &key, key.clone());
    let signer = open(&honest, RESOURCE).unwrap();
    assert_eq!(*signer.verification_key(), key.verifying_key());
    let chain = ChainId::new("preview").unwrap();
    let message = Benign::RawBytes { chain: &chain, raw_bytes: b"manifest", unique_id: "x" };
    let signature = Key::new(Box::new(signer)).sign_benign(&message).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(signature.as_bytes()).unwrap();
    key.verifying_key().verify_strict(&message.bytes(), &signature).unwrap();

    let lying = kms(&runtime, &key, other);
    let refused = Key::new(Box::new(open(&lying, RESOURCE).unwrap())).sign_benign(&message).unwrap_err();
    assert!(refused.to_string().contains("not of this key"), "{refused}");
    let unknown = open(&honest, "projects/p/none").unwrap_err();
    assert!(unknown.to_string().contains("404"), "{unknown}");
}
