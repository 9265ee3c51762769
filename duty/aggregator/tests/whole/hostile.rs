//! Strangers who want the server down: what they open, what they send, what they hold back, and what it costs.
//!
//! The server runs in a process of its own, so that its memory can be read and its descriptors are not the attacker's.

use crate::http::{get, post, serve};
use crate::stage::{Stage, fixture};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Names the process that is the server.
const ROLE: &str = "SEMEL_TEST_VICTIM";
/// Connections that are opened and go no further.
const HALF_OPEN: usize = 10_000;
/// Bytes that no attack of these may cost: a debug build with its stacks and buffers is well below.
const COST_MAX: u64 = 256 << 20;

/// A server in another process.
struct Victim {
    process: Child,
    address: SocketAddr,
}

impl Victim {
    fn start() -> Victim {
        let name = "hostile::a_server_in_a_process_of_its_own";
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--ignored", "--nocapture"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| Some(line.unwrap().split_once("victim at ")?.1.to_owned()));
        // Whatever else it says must find a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Victim { process, address: address.unwrap().parse().unwrap() }
    }

    /// Resident memory, in bytes: now (`VmRSS:`) or at its highest (`VmHWM:`).
    fn memory(&self, which: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Still answers, and quickly.
    fn answers(&self) {
        let begun = Instant::now();
        assert_eq!(get(self.address, "/status").status, 200);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// What comes back, until the other side closes or resets.
    fn exchange(&self, sent: &[u8]) -> String {
        let mut stream = self.connect();
        let _refused_midway = stream.write_all(sent);
        rest(&mut stream)
    }

    /// The attack must cost no more than it may, and the server must live.
    fn survives(&self, attack: impl FnOnce()) {
        self.answers();
        let before = self.memory("VmRSS:");
        attack();
        let cost = self.memory("VmHWM:").saturating_sub(before);
        assert!(cost < COST_MAX, "it cost {} MiB", cost >> 20);
        self.answers();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 65536];
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        all.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn status(reply: &str) -> u16 {
    reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Descriptors for the attack; false, and on record, when they cannot be had.
fn descriptors(count: usize, test: &str) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let _refused = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let enough = getrlimit(Resource::Nofile).current.is_none_or(|now| now >= count as u64 + 500);
    if !enough && let Some(log) = std::env::var_os("SEMEL_SKIP_LOG") {
        let mut log = std::fs::OpenOptions::new().append(true).create(true).open(log).unwrap();
        writeln!(log, "{test}: {count} descriptors cannot be had").unwrap();
    }
    enough
}

#[test]
#[ignore = "the tests beside it start it"]
fn a_server_in_a_process_of_its_own() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new(place.path(), &fixture(3), 10);
    stage.settle();
    let archives = place.path().join("archives/immutable");
    std::fs::create_dir_all(&archives).unwrap();
    std::fs::File::create(archives.join("00000.tar.zst")).unwrap().set_len(64 << 20).unwrap();
    let server = serve(&stage, archives.parent());
    writeln!(std::io::stdout(), "victim at {}", server.address()).unwrap();
    let _until_it_is_closed = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn ten_thousand_half_open_connections_keep_nobody_out_and_end() {
    if !descriptors(HALF_OPEN, "ten_thousand_half_open_connections_keep_nobody_out_and_end") {
        return;
    }
    let victim = Victim::start();
    victim.survives(|| {
        let begun = Instant::now();
        let mut idle = Vec::with_capacity(HALF_OPEN);
        for number in 0..HALF_OPEN {
            let mut stream = victim.connect();
            // A third says nothing, a third begins a line, a third stops within headers.
            let said: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /aggreg",
                _ => b"GET /aggregator/status HTTP/1.1\r\nhost: x\r\nx-a: ",
            };
            stream.write_all(said).unwrap();
            idle.push(stream);
            if number % 500 == 0 {
                victim.answers();
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        for _ in 0..20 {
            victim.answers();
        }
        // All of them end by themselves, the last one like the first.
        for stream in idle.iter_mut().rev() {
            rest(stream);
        }
    });
}

#[test]
fn bodies_that_trickle_or_stop_are_given_up_and_cost_little() {
    let count = 1500;
    if !descriptors(count, "bodies_that_trickle_or_stop_are_given_up_and_cost_little") {
        return;
    }
    let victim = Victim::start();
    let length = 262_000;
    let head = format!("POST /aggregator/register-signatures HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    let almost = vec![b' '; length - 1];
    victim.survives(|| {
        let mut slow: Vec<_> = (0..count).map(|_| victim.connect()).collect();
        for stream in &mut slow {
            stream.write_all(head.as_bytes()).unwrap();
            // Some are refused before they have sent it all.
            stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
            let _refused = stream.write_all(&almost);
        }
        victim.answers();
        // A small body finds its place beside them.
        assert_eq!(post(victim.address, "/register-signatures", "{}").status, 400);
        let begun = Instant::now();
        let statuses: Vec<_> = slow.iter_mut().map(|stream| status(&rest(stream))).collect();
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
        assert!(statuses.iter().all(|status| matches!(status, 408 | 503 | 0)), "{statuses:?}");
        assert!(statuses.contains(&408) && statuses.contains(&503));
    });
}

#[test]
fn bodies_without_an_end_are_refused_before_they_are_read() {
    let victim = Victim::start();
    let flood = vec![b'['; 16 << 20];
    let head = |more: &str| format!("POST /aggregator/register-signer HTTP/1.1\r\nhost: x\r\n{more}\r\n\r\n");
    victim.survives(|| {
        for _ in 0..20 {
            let reply = victim.exchange(&[head("content-length: 16777216").as_bytes(), &flood].concat());
            assert!(matches!(status(&reply), 413 | 0), "{reply}");
            let chunked = head("transfer-encoding: chunked");
            let reply = victim.exchange(&[chunked.as_bytes(), b"1000000\r\n", &flood, b"\r\n0\r\n\r\n"].concat());
            assert!(matches!(status(&reply), 411 | 0), "{reply}");
        }
        // Headers only: the refusal is there before any body.
        let reply = victim.exchange(head("connection: close\r\ncontent-length: 16777216").as_bytes());
        assert_eq!(status(&reply), 413);
        let reply = victim.exchange(head("connection: close\r\ntransfer-encoding: chunked").as_bytes());
        assert_eq!(status(&reply), 411);
        // Two lengths, or a length beside chunks: nobody behind or before us may read another request than we.
        for two in ["content-length: 4\r\ncontent-length: 5", "content-length: x", "content-length: -1"] {
            let reply = victim.exchange([head(two).as_bytes(), b"{}{}{}"].concat().as_slice());
            assert!(matches!(status(&reply), 400 | 411), "{two}: {reply}");
        }
        let both = head("content-length: 2\r\ntransfer-encoding: chunked");
        let reply =
            victim.exchange(format!("{both}2\r\n{{}}\r\n0\r\n\r\nGET /aggregator/status HTTP/1.1\r\n").as_bytes());
        assert!(matches!(status(&reply), 400 | 411), "{reply}");
        assert_eq!(reply.matches("HTTP/1.1 ").count(), 1, "{reply}");
    });
}

/// Bodies that are small to send and dear to read, if anything is.
fn bombs() -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let keyed = |key: &str| format!(r#"{{"epoch":11,"party_id":"pool1","verification_key":"{key}"}}"#);
    let length = 200_000;
    let mut bombs = vec![
        "[".repeat(length),
        r#"{"a":"#.repeat(length / 5),
        format!("[{}1]", "1,".repeat(length / 2)),
        format!("{{{}\"z\":1}}", "\"epoch\":1,".repeat(length / 10)),
        format!(r#"{{"epoch":{}}}"#, "9".repeat(length)),
        format!(r#"{{"epoch":1e{}}}"#, "9".repeat(length)),
        format!(r#"{{"epoch":0.{}1}}"#, "0".repeat(length)),
        format!(r#"{{"party_id":"{}"}}"#, "\\u0041".repeat(length / 6)),
        format!(r#"{{"party_id":"{}"}}"#, "\\ud800".repeat(length / 6)),
    ];
    // The same once more inside of hex, as JSON and as CBOR whose lengths lie.
    bombs.push(keyed(&hex("[".repeat(length / 2 - 100).as_bytes())));
    bombs.push(keyed(&hex(r#"{"vk":"#.repeat(length / 14).as_bytes())));
    for lying in [&[0x9b][..], &[0x5b], &[0x7b], &[0xbb], &[0x01, 0x9b], &[0x01, 0x5b], &[0x01, 0xbb], &[0x01, 0xbf]] {
        for size in [[0xff; 8], [0, 0, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            bombs.push(keyed(&hex(&[lying, &size].concat())));
            bombs.push(keyed(&hex(&[lying, &size, &[0x81; 4096]].concat())));
        }
    }
    bombs.push(keyed(&hex(&[&[0x01][..], &[0x81; 90_000]].concat())));
    bombs.push(keyed(&hex(&[&[0x01][..], &[0x9f; 90_000]].concat())));
    bombs.push(keyed(&hex(&[&[0x01][..], &[0xd8, 0x18].repeat(45_000)].concat())));
    bombs
}

#[test]
fn bombs_of_json_and_cbor_are_refused_quickly_and_cost_little() {
    let victim = Victim::start();
    let signature = |bomb: &str| {
        bomb.replace("\"verification_key\"", "\"signature\"").replace(
            "\"epoch\":11",
            "\"entity_type\":{\"MithrilStakeDistribution\":10},\"indexes\":[1],\"signed_message\":\"b\"",
        )
    };
    victim.survives(|| {
        for bomb in bombs() {
            for (path, body) in [("/register-signer", bomb.clone()), ("/register-signatures", signature(&bomb))] {
                let begun = Instant::now();
                let reply = post(victim.address, path, &body);
                assert_eq!(reply.status, 400, "{path}: {}", &body[..body.len().min(200)]);
                // The refusal does not repeat what was sent.
                assert!(reply.body.len() < 2048, "{path}: {} bytes for {}", reply.body.len(), &body[..100]);
                assert!(begun.elapsed() < Duration::from_secs(2), "{path}: {:?}", begun.elapsed());
            }
        }
    });
}

#[test]
fn floods_of_headers_and_long_lines_are_refused() {
    let victim = Victim::start();
    victim.survives(|| {
        let many: String = (0..1000).map(|number| format!("x-{number}: y\r\n")).collect();
        let long = format!("x-a: {}\r\n", "b".repeat(1 << 20));
        let endless = "x-a: b\r\n".repeat(1 << 17);
        for headers in [many, long, endless] {
            let reply =
                victim.exchange(format!("GET /aggregator/status HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes());
            assert!(matches!(status(&reply), 431 | 400 | 0), "{reply}");
        }
        let path = "a".repeat(1 << 20);
        let reply = victim.exchange(format!("GET /aggregator/{path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        assert!(matches!(status(&reply), 414 | 431 | 400 | 0), "{reply}");
        for nonsense in [
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            b"GET /aggregator/status HTTP/1.1\r\nhost: x\r\nx: \0\r\n\r\n",
            b"GET /aggregator/status HTTP/9.9\r\nhost: x\r\n\r\n",
            b"GET  HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\r\n\r\n\r\n\r\nx\r\n\r\n",
        ] {
            let reply = victim.exchange(nonsense);
            assert!(matches!(status(&reply), 400 | 404 | 0), "{nonsense:?}: {reply}");
        }
    });
}

#[test]
fn requests_in_one_piece_are_answered_in_order_and_strange_methods_with_405() {
    let victim = Victim::start();
    victim.survives(|| {
        let one = "GET /aggregator/status HTTP/1.1\r\nhost: x\r\n\r\n";
        let last = "GET /aggregator/nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let replies = victim.exchange(format!("{}{last}", one.repeat(2000)).as_bytes());
        assert_eq!(replies.matches("HTTP/1.1 200 ").count(), 2000);
        assert_eq!(replies.matches("HTTP/1.1 404 ").count(), 1);
        for method in ["PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "X", &"M".repeat(300)] {
            let reply = victim.exchange(
                format!("{method} /aggregator/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
            );
            assert_eq!(status(&reply), 405, "{method}: {reply}");
        }
    });
}

#[test]
fn clients_that_ask_and_do_not_read_are_given_up_and_cost_little() {
    let victim = Victim::start();
    // More than there are places for downloads.
    let count = 600;
    if !descriptors(count, "clients_that_ask_and_do_not_read_are_given_up_and_cost_little") {
        return;
    }
    victim.survives(|| {
        let path = "GET /aggregator/cardano-database-download/immutable/00000.tar.zst HTTP/1.1\r\nhost: x\r\n\r\n";
        let mut deaf: Vec<_> = (0..count).map(|_| victim.connect()).collect();
        for stream in &mut deaf {
            stream.write_all(path.as_bytes()).unwrap();
        }
        victim.answers();
        let until = Instant::now() + Duration::from_secs(100);
        // As soon as those are given up, there is a place again.
        loop {
            let head = "GET /aggregator/cardano-database-download/immutable/00000.tar.zst HTTP/1.1\r\nhost: x\r\nrange: bytes=0-9\r\nconnection: close\r\n\r\n";
            match status(&victim.exchange(head.as_bytes())) {
                206 => break,
                503 => assert!(Instant::now() < until, "nobody else can download any more"),
                other => panic!("{other}"),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        drop(deaf);
    });
}
