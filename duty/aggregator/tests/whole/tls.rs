//! The built-in TLS, as a client meets it: verified, renewed without a restart, and not kept up by those who do not shake hands.

use crate::http::app;
use crate::stage::{Stage, fixture};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Certificate, Client};
use semel_aggregator::host::http::server::Server;
use semel_aggregator::host::http::tls::{Files, Tls};
use semel_aggregator::host::walk::origin::fetch_json;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// A self-signed certificate for this host, and its key, as PEM.
fn certified() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    (pem("CERTIFICATE", made.cert.der()), pem("PRIVATE KEY", &made.key_pair.serialize_der()))
}

fn files(place: &Path) -> Files {
    Files { certificate: place.join("chain.pem"), key: place.join("key.pem") }
}

fn replace(path: &PathBuf, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// Trusts this certificate and nobody else.
fn client(certificate: &str) -> Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    let root = Certificate::from_pem(certificate.as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]).no_proxy().https_only(true);
    client.timeout(Duration::from_secs(10)).build().unwrap()
}

async fn status(client: &Client, server: &Server) -> Option<u16> {
    let url = format!("https://{}/aggregator/status", server.address());
    client.get(url).send().await.ok().map(|reply| reply.status().as_u16())
}

#[test]
fn clients_verify_the_certificate_and_a_renewed_one_needs_no_restart() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    stage.settle();
    let files = files(place.path());
    let ((first, first_key), (second, second_key)) = (certified(), certified());
    std::fs::write(&files.certificate, &first).unwrap();
    std::fs::write(&files.key, &first_key).unwrap();
    let (tls, beside) = (Arc::new(Tls::open(files.clone()).unwrap()), Tls::open(files.clone()).unwrap());
    let server = Server::start_with("127.0.0.1:0".parse().unwrap(), app(&stage), 2, 0, Some(tls)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (trusts_first, trusts_second) = (client(&first), client(&second));
        assert_eq!(status(&trusts_first, &server).await, Some(200));
        assert_eq!(status(&trusts_second, &server).await, None);
        // Half of a renewal: nothing changes.
        replace(&files.certificate, &second);
        assert!(beside.refresh().is_err());
        assert!(!beside.refresh().unwrap(), "what was refused is not tried again");
        assert_eq!(status(&client(&first), &server).await, Some(200));
        // The other half: the server sees by itself that there is a new one.
        replace(&files.key, &second_key);
        let begun = Instant::now();
        while status(&client(&second), &server).await != Some(200) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the new certificate is not served");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(status(&client(&first), &server).await, None);
        // A connection that was open goes on.
        assert_eq!(status(&trusts_first, &server).await, Some(200));
    });
}

#[test]
fn who_speaks_no_tls_or_stops_within_the_handshake_is_hung_up_on() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    stage.settle();
    let files = files(place.path());
    let (certificate, key) = certified();
    std::fs::write(&files.certificate, &certificate).unwrap();
    std::fs::write(&files.key, &key).unwrap();
    let tls = Arc::new(Tls::open(files).unwrap());
    let server = Server::start_with("127.0.0.1:0".parse().unwrap(), app(&stage), 2, 0, Some(tls)).unwrap();
    let says = |said: &[u8]| {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(said).unwrap();
        stream
    };
    let mut silent: Vec<_> = (0..300).map(|number| says(if number % 2 == 0 { b"" } else { b"\x16\x03\x01" })).collect();
    let mut plain = says(b"GET /aggregator/status HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut reply = Vec::new();
    let _reset = plain.read_to_end(&mut reply);
    assert!(!reply.starts_with(b"HTTP"), "{reply:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(status(&client(&certificate), &server)), Some(200));
    let begun = Instant::now();
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn the_server_of_this_host_is_asked_for_its_own_certificate_whatever_names_are_in_it() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    stage.settle();
    let files = files(place.path());
    let made = rcgen::generate_simple_self_signed(["aggregator.example.com".to_owned()]).unwrap();
    std::fs::write(&files.certificate, pem("CERTIFICATE", made.cert.der())).unwrap();
    std::fs::write(&files.key, pem("PRIVATE KEY", &made.key_pair.serialize_der())).unwrap();
    let tls = Arc::new(Tls::open(files.clone()).unwrap());
    let server = Server::start_with("127.0.0.1:0".parse().unwrap(), app(&stage), 2, 0, Some(tls)).unwrap();
    let url = format!("https://{}/aggregator", server.address());
    let told = fetch_json(&url, "/status", Some(&files.certificate)).unwrap();
    assert_eq!(told["cardano_network"], "devnet");
    assert!(fetch_json(&url, "/status", None).is_err());
    // Another certificate of the same names is another.
    let other = place.path().join("other.pem");
    let made = rcgen::generate_simple_self_signed(["aggregator.example.com".to_owned()]).unwrap();
    std::fs::write(&other, pem("CERTIFICATE", made.cert.der())).unwrap();
    assert!(fetch_json(&url, "/status", Some(&other)).is_err());
    std::fs::write(&other, "nonsense").unwrap();
    let refused = fetch_json(&url, "/status", Some(&other)).unwrap_err().to_string();
    assert!(refused.contains("other.pem"), "{refused}");
}

#[test]
fn files_that_are_no_certificate_or_no_key_are_refused_with_their_name() {
    let place = tempfile::tempdir().unwrap();
    let files = files(place.path());
    let ((certificate, key), (other, _)) = (certified(), certified());
    for (is, has, complaint) in [
        ("", "", "there is no certificate in it"),
        ("nonsense", &*key, "there is no certificate in it"),
        (&*certificate, "", "key.pem"),
        (&*certificate, &*certificate, "key.pem"),
        (&*other, &*key, "certificate and key cannot be used"),
    ] {
        std::fs::write(&files.certificate, is).unwrap();
        std::fs::write(&files.key, has).unwrap();
        let refused = Tls::open(files.clone()).unwrap_err().to_string();
        assert!(refused.contains(complaint), "{refused}");
        assert!(!refused.contains("PRIVATE"), "{refused}");
    }
    std::fs::remove_file(&files.certificate).unwrap();
    assert!(Tls::open(files).unwrap_err().to_string().contains("chain.pem"));
}
