//! Tickers of pools from a server on loopback that speaks as Blockfrost does, and as it must not.

use crate::http::{app, get};
use crate::stage::{Stage, fixture};
use semel_aggregator::face::args::SecretText;
use semel_aggregator::face::settings::Blockfrost;
use semel_aggregator::host::http::server::Server;
use semel_aggregator::host::tickers::{Importer, TickersError};
use semel_ops::shutdown::{Stop, StopReason};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Answers each request in turn with what the list says, the last one for ever; tells the requests.
fn server(replies: Vec<String>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream: TcpStream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            if tell.send(String::from_utf8_lossy(&head).into_owned()).is_err() {
                return;
            }
            let _gone = stream.write_all(replies[number.min(replies.len() - 1)].as_bytes());
        }
    });
    (address, told)
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn pool(number: usize) -> String {
    format!("pool1{number:0>51}")
}

fn page(pools: std::ops::Range<usize>) -> String {
    let pools =
        pools.map(|number| serde_json::json!({"pool_id": pool(number), "metadata": {"ticker": format!("T{number}"), "name": "N"}}));
    ok(&serde_json::Value::from_iter(pools).to_string())
}

fn blockfrost(address: SocketAddr) -> Blockfrost {
    let base_url = Some(format!("http://{address}/api/v0/").parse().unwrap());
    Blockfrost { project_id: SecretText::new("previewsecret"), base_url }
}

fn tickers(at: SocketAddr) -> Vec<(String, Option<String>, bool)> {
    let list = get(at, "/signers/tickers").json();
    let of = |signer: &serde_json::Value| {
        let ticker = signer.get("pool_ticker").map(|ticker| ticker.as_str().unwrap().to_owned());
        (signer["party_id"].as_str().unwrap().to_owned(), ticker, signer["has_registered"].as_bool().unwrap())
    };
    list["signers"].as_array().unwrap().iter().map(of).collect()
}

const SOON: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn tickers_come_page_by_page_with_the_secret_and_are_served_at_once() {
    let place = tempfile::tempdir().unwrap();
    let fixture = fixture(3);
    let stage = Stage::new(place.path(), &fixture, 10);
    stage.settle();
    stage.register(&fixture);
    let api = Server::start("127.0.0.1:0".parse().unwrap(), app(&stage), 2).unwrap();
    assert_eq!(tickers(api.address()).len(), 3);
    let registered = fixture.signers()[0].party_id.clone();
    let own = format!(r#"[{{"pool_id":"{registered}","metadata":{{"ticker":"OWN","name":"of ours"}}}}]"#);
    let replies = vec![page(0..100), page(100..200), ok(&own), page(0..0)];
    let (address, asked) = server(replies);
    let stop = Stop::new();
    let importer = Importer::start(&blockfrost(address), &stage.engine, SOON, SOON, &stop).unwrap();
    for number in 1..=3 {
        let head = asked.recv_timeout(PATIENCE).unwrap();
        assert!(
            head.starts_with(&format!("GET /api/v0/pools/extended?count=100&page={number} HTTP/1.1\r\n")),
            "{head}"
        );
        assert!(head.contains("project_id: previewsecret\r\n"), "{head}");
    }
    // The next import: it has begun when the one before is done.
    let next = asked.recv_timeout(PATIENCE).unwrap();
    assert!(next.contains("page=1 "), "{next}");
    let list = tickers(api.address());
    assert_eq!(list.len(), 203);
    assert!(list.contains(&(pool(150), Some("[T150] N".into()), false)));
    assert!(list.contains(&(registered, Some("[OWN] of ours".into()), true)));
    stop.stop(StopReason::Asked);
    drop(importer);
}

/// The ids that are kept, with their tickers.
fn kept(stage: &Stage) -> Vec<(String, Option<String>)> {
    let list = stage.engine.store().read(semel_aggregator::host::store::epochs::tickers).unwrap();
    list.into_iter().map(|one| (one.party, one.ticker)).collect()
}

/// The answer to the third import has been asked for when the second is kept.
fn import(stage: &Stage, replies: Vec<String>) {
    let count = replies.len();
    let (address, asked) =
        server([replies, vec!["HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".into()]].concat());
    let stop = Stop::new();
    let importer = Importer::start(&blockfrost(address), &stage.engine, SOON, SOON, &stop).unwrap();
    for _ in 0..=count {
        asked.recv_timeout(PATIENCE).unwrap();
    }
    stop.stop(StopReason::Asked);
    drop(importer);
}

#[test]
fn every_pool_is_listed_the_newest_first_and_a_ticker_that_is_gone_is_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    let one = |number: usize, metadata: &str| format!(r#"{{"pool_id":"{}","metadata":{metadata}}}"#, pool(number));
    let both = r#"{"ticker":"T","name":"N"}"#;
    import(&stage, vec![ok(&format!("[{},{},{}]", one(1, both), one(3, "null"), one(2, r#"{"ticker":"T"}"#)))]);
    assert_eq!(kept(&stage), [(pool(2), None), (pool(3), None), (pool(1), Some("[T] N".to_owned()))]);
    import(&stage, vec![ok(&format!("[{},{}]", one(1, "null"), one(2, both)))]);
    assert_eq!(kept(&stage), [(pool(2), Some("[T] N".to_owned())), (pool(3), None), (pool(1), None)]);
}

#[test]
fn a_page_that_cannot_be_had_at_once_is_asked_for_again_and_all_pages_count_or_none() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    let refused = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    import(&stage, vec![page(0..100), refused("403 Forbidden")]);
    assert_eq!(kept(&stage), []);
    let begun = Instant::now();
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[".to_owned();
    import(
        &stage,
        vec![refused("429 Too Many Requests"), page(0..100), refused("503 Service Unavailable"), cut, page(100..101)],
    );
    assert_eq!(kept(&stage).len(), 101);
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    // No wait for another attempt holds up the end.
    let (address, asked) = server(vec![refused("500 Internal Server Error")]);
    let stop = Stop::new();
    let importer = Importer::start(&blockfrost(address), &stage.engine, SOON, SOON, &stop).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
    let begun = Instant::now();
    stop.stop(StopReason::Asked);
    drop(importer);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_lies_fails_or_stalls_changes_nothing_and_holds_up_no_end() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    let known = || {
        let list = stage.engine.store().read(semel_aggregator::host::store::epochs::tickers).unwrap();
        list.len()
    };
    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[{}", " ".repeat(3 << 20));
    let elsewhere = "HTTP/1.1 302 Found\r\nlocation: /api/v0/pools/extended?elsewhere\r\ncontent-length: 0\r\n\r\n";
    for reply in [
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n".to_owned(),
        elsewhere.to_owned(),
        ok("{\"error\": \"no\"}"),
        ok(&"[".repeat(100_000)),
        endless,
        "nonsense\r\n\r\n".to_owned(),
        // It promises more than it sends.
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[".to_owned(),
    ] {
        let (address, asked) = server(vec![reply.clone()]);
        let stop = Stop::new();
        let importer = Importer::start(&blockfrost(address), &stage.engine, SOON, SOON, &stop).unwrap();
        for _ in 0..2 {
            let head = asked.recv_timeout(PATIENCE).unwrap();
            assert!(head.contains("&page=1 "), "{head}");
        }
        stop.stop(StopReason::Asked);
        drop(importer);
        assert_eq!(known(), 0, "{}", &reply[..reply.len().min(80)]);
    }
    // A server that takes the request and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stop = Stop::new();
    let silent = blockfrost(listener.local_addr().unwrap());
    let importer = Importer::start(&silent, &stage.engine, SOON, SOON, &stop).unwrap();
    let (_held, _) = listener.accept().unwrap();
    let begun = Instant::now();
    stop.stop(StopReason::Asked);
    drop(importer);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn the_server_is_that_of_the_projects_network() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    let stop = Stop::new();
    stop.stop(StopReason::Asked);
    let start = |project: &str| {
        let from = Blockfrost { project_id: SecretText::new(project), base_url: None };
        Importer::start(&from, &Arc::clone(&stage.engine), SOON, SOON, &stop)
    };
    assert!(start("mainnetabc").is_ok());
    assert!(matches!(start("abc"), Err(TickersError::NoServer)));
    assert!(matches!(start("mainnet\n"), Err(TickersError::ProjectId)));
}
