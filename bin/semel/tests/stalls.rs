//! Nodes that stall, drip, flap, replay and lie below the messages: each ends its own session and nobody else's.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop")]

mod stage;

use semel_devnet_tendermint::privval::socket::Socket;
use semel_devnet_tendermint::privval::{Family, Listen, Listener, RemoteError};
use semel_kms::core::secret::Established;
use stage::below::{caller, shaken};
use stage::{PATIENCE, Signer, Stage, called, get, node, node_at, prevote};
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// A signer with a deadline of one second on each message.
fn impatient(stage: &Stage, nodes: &[&Listener], more: &[&str]) -> Signer {
    let addresses: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
    let config = stage.config(&addresses);
    let text = stage.read("tmkms.toml").replace("reconnect", "timeout = 1\nreconnect");
    std::fs::write(&config, text).unwrap();
    stage.start_with(&config, more)
}

/// Reads until the other side hangs up.
fn rest_of(socket: &mut Socket) -> Vec<u8> {
    let mut heard = Vec::new();
    match socket.read_to_end(&mut heard) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("it never hangs up")
        }
        _ => heard,
    }
}

#[test]
fn a_node_that_stalls_or_drips_is_left_after_its_timeout() {
    // What arrives of a request in which pause: nothing, the head of one, one byte after another.
    let rows: [(&str, &[u8], Duration); 3] = [
        ("silence", &[], Duration::ZERO),
        ("half a request", &[200, 1, 0x1a], Duration::ZERO),
        ("a byte now and then", &[0xff; 60], Duration::from_millis(200)),
    ];
    std::thread::scope(|scope| {
        for (name, bytes, pause) in rows {
            scope.spawn(move || {
                let stage = Stage::new();
                let node = node(Family::V034);
                let signer = impatient(&stage, &[&node], &[]);
                let mut remote = called(&node);
                let since = Instant::now();
                if pause.is_zero() {
                    remote.send_raw(bytes).unwrap();
                } else {
                    // The head of a long request, and then its bytes.
                    remote.send_raw(&[0xff, 0xff, 0x3f]).unwrap();
                    for byte in bytes {
                        std::thread::sleep(pause);
                        if remote.send_raw(&[*byte]).is_err() {
                            break;
                        }
                    }
                }
                assert!(matches!(remote.receive(), Err(RemoteError::Connection(_))), "{name}");
                let (least, most) = (Duration::from_millis(900), Duration::from_secs(4));
                assert!((least..most).contains(&since.elapsed()), "{name}: {:?}", since.elapsed());
                signer.said("no message for 1 s, not even a ping");
                called(&node).sign_vote(&prevote(1, 1)).unwrap();
            });
        }
    });
}

#[test]
fn a_node_that_never_reads_holds_up_nobody_else() {
    let stage = Stage::new();
    let (deaf, well) = (node(Family::V034), node(Family::V034));
    let signer = impatient(&stage, &[&deaf, &well], &[]);
    let mut flooding = called(&deaf);
    let mut remote = called(&well);
    let pings = [2, 0x3a, 0].repeat(20_000);
    let flood = std::thread::spawn(move || while flooding.send_raw(&pings).is_ok() {});
    for height in 1.. {
        remote.sign_vote(&prevote(height, 1)).unwrap();
        if flood.is_finished() {
            break;
        }
    }
    flood.join().unwrap();
    assert_eq!(signer.count("connected to validator successfully"), 2);
    called(&deaf).ping().unwrap();
}

#[test]
fn what_came_before_the_end_is_answered() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = impatient(&stage, &[&node], &[]);
    let mut remote = called(&node);
    remote.sign_vote(&prevote(1, 1)).unwrap();
    // More than is read at once.
    let count = 3_000;
    remote.send_raw(&[2, 0x3a, 0].repeat(count)).unwrap();
    let Socket::Tcp(socket) = remote.socket() else { panic!("{:?}", remote.socket()) };
    socket.shutdown(Shutdown::Write).unwrap();
    for number in 1..=count {
        assert_eq!(remote.receive().unwrap(), [0x42, 0], "answer {number}");
    }
    assert!(matches!(remote.receive(), Err(RemoteError::Connection(_))));
    signer.said("the node closed the connection");
    called(&node).sign_vote(&prevote(2, 1)).unwrap();
}

#[test]
fn a_node_that_closes_at_any_byte_of_the_handshake_finds_a_signer_the_next_time() {
    // 35 bytes of a key, then one frame of 1044.
    let cuts = [0, 1, 3, 34, 35, 36, 500, 1078];
    let stage = Stage::new();
    let nodes: Vec<Listener> = cuts.iter().map(|_| node(Family::V034)).collect();
    let signer = impatient(&stage, &nodes.iter().collect::<Vec<_>>(), &[]);
    std::thread::scope(|scope| {
        for (node, cut) in nodes.iter().zip(cuts) {
            scope.spawn(move || {
                let mut socket = caller(node);
                assert!(shaken(&mut socket, cut).is_none(), "{cut}");
                drop(socket);
                called(node).ping().unwrap();
            });
        }
    });
    assert_eq!(signer.count("undecodable"), 0);
    assert!(signer.count("closed the connection within the handshake") + signer.count("connection failed") >= 8);
}

#[test]
fn handshakes_of_low_order_and_of_other_protocols_end_before_our_identity_is_shown() {
    let of_low_order = |point: &str| {
        let mut bytes = vec![0x22, 0x0a, 0x20];
        bytes.extend(hex::decode(point).unwrap());
        bytes
    };
    let zero = "00".repeat(32);
    let one = format!("01{}", "00".repeat(31));
    // Points of order 8, and p − 1, p, p + 1.
    let rows = [
        (of_low_order(&zero), "low order"),
        (of_low_order(&one), "low order"),
        (of_low_order("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "low order"),
        (of_low_order("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "low order"),
        (of_low_order(&format!("ec{}7f", "ff".repeat(30))), "low order"),
        (of_low_order(&format!("ed{}7f", "ff".repeat(30))), "low order"),
        (of_low_order(&format!("ee{}7f", "ff".repeat(30))), "low order"),
        // Amino: 33 bytes follow, a byte string of 32.
        ([vec![0x21, 0x20], vec![0; 32]].concat(), "low order"),
        (b"GET / HTTP/1.1\r\nHost: signer\r\n\r\n".to_vec(), "does not speak SecretConnection"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "does not speak SecretConnection"),
        (vec![0xff; 64], "does not speak SecretConnection"),
    ];
    let stage = Stage::new();
    let nodes: Vec<Listener> = rows.iter().map(|_| node(Family::V034)).collect();
    let signer = impatient(&stage, &nodes.iter().collect::<Vec<_>>(), &[]);
    for (node, (bytes, words)) in nodes.iter().zip(rows) {
        let mut socket = caller(node);
        socket.write_all(&bytes).unwrap();
        let heard = rest_of(&mut socket);
        assert!(heard.len() <= 35, "{bytes:02x?}: {} bytes came back", heard.len());
        let name = format!("{}] handshake failed", node.address());
        let line = signer.said(&name);
        assert!(line.contains(words), "{bytes:02x?}: {line}");
    }
}

#[test]
fn frames_that_are_repeated_swapped_or_altered_end_the_session_unanswered() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = impatient(&stage, &[&node], &[]);
    let ping = [2, 0x3a, 0];
    let seal = |secret: &mut Established| {
        let mut frame = Vec::new();
        secret.sealer.seal(&ping, &mut frame).unwrap();
        frame
    };
    // Name, frames made of the first two good ones, answers that come before the end.
    type Spoil = fn(Vec<u8>, Vec<u8>) -> Vec<Vec<u8>>;
    let rows: [(&str, Spoil, usize); 5] = [
        ("as they are", |a, b| vec![a, b], 2),
        ("the first again", |a, _| vec![a.clone(), a], 1),
        ("in the other order", |a, b| vec![b, a], 0),
        (
            "a bit of the text flipped",
            |mut a, b| {
                a[500] ^= 1;
                vec![a, b]
            },
            0,
        ),
        (
            "a bit of the tag flipped",
            |a, mut b| {
                *b.last_mut().unwrap() ^= 0x80;
                vec![a, b]
            },
            1,
        ),
    ];
    for (name, spoil, answers) in rows {
        let mut socket = caller(&node);
        let mut secret = shaken(&mut socket, usize::MAX).unwrap();
        let (first, second) = (seal(&mut secret), seal(&mut secret));
        let mut heard = Vec::new();
        let mut chunk = [0; 4096];
        for (index, frame) in spoil(first, second).into_iter().enumerate() {
            // After a bad frame the other end may be gone already.
            let _gone = socket.write_all(&frame);
            while heard.len() < 3 * (index + 1) {
                let Ok(count @ 1..) = socket.read(&mut chunk) else { break };
                secret.opener.push(&chunk[..count], &mut heard).unwrap();
            }
        }
        assert_eq!(heard, [2, 0x42, 0].repeat(answers), "{name}");
        if answers < 2 {
            signer.said("a frame does not open");
        }
    }
    called(&node).sign_vote(&prevote(1, 1)).unwrap();
}

#[test]
fn a_node_that_takes_the_signer_and_hangs_up_each_second_is_told_of_now_and_then() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let signer = impatient(&stage, &[&node], &["--http", "127.0.0.1:0"]);
    let mut calls = Vec::new();
    for _ in 0..5 {
        drop(called(&node));
        calls.push(Instant::now());
    }
    for pair in calls.windows(2) {
        let pace = pair[1] - pair[0];
        assert!((Duration::from_millis(800)..Duration::from_millis(1500)).contains(&pace), "{pace:?}");
    }
    for line in ["the node closed the connection", "connected to validator successfully"] {
        assert!((1..=3).contains(&signer.count(line)), "{line}: {}", signer.text());
    }
    let address = signer.said("health and metrics on").split("http://").nth(1).unwrap().to_owned();
    let (_, metrics) = get(&address, "/metrics");
    assert!(metrics.contains("semel_kms_connects_total") && metrics.contains("reason=\"closed\""), "{metrics}");
}

#[test]
fn the_same_wrong_request_again_and_again_is_refused_each_time_and_logged_now_and_then() {
    let stage = Stage::new();
    let node = node_at(Listen::Tcp(([127, 0, 0, 1], 0).into()), Family::V034, "other-1");
    let signer = stage.start(&stage.config(&[node.address().to_string()]));
    let mut remote = node.accept(PATIENCE).unwrap();
    for _ in 0..200 {
        let (code, words) = stage::refusal(remote.pub_key());
        assert!(code == 1 && words.contains("other-1"), "{words}");
    }
    signer.said("refused: this signer is for chain");
    assert!(signer.count("refused: this signer is for chain") <= 2, "{}", signer.text());
}

#[test]
fn a_connection_on_which_nobody_has_spoken_is_looked_after_by_the_system() {
    let stage = Stage::new();
    let node = node(Family::V034);
    let _signer = impatient(&stage, &[&node], &[]);
    let Socket::Tcp(stream) = caller(&node) else { panic!("TCP") };
    let port = stream.peer_addr().unwrap().port();
    // The row of the signer's end, and its timer: 2 is keepalive. It is set a moment after the call.
    let end = format!("0100007F:{port:04X}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row.get(1) == Some(&end.as_str())).unwrap();
        if row[5].starts_with("02:") {
            break;
        }
        assert!(Instant::now() < deadline, "{row:?}");
    }
}
