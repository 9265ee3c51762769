//! SecretConnection against another implementation: `tendermint-p2p`, at the other end of a socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ed25519_dalek::{Signer as _, SigningKey};
use semel_kms::core::node_id;
use semel_kms::core::secret::{Established, Expect, Handshake, Identity, Progress, SecretError, Variant};
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tendermint_p2p::secret_connection::{SecretConnection, Version};

const VERSIONS: [(Variant, Version); 3] =
    [(Variant::Legacy, Version::Legacy), (Variant::V033, Version::V0_33), (Variant::V034, Version::V0_34)];
const SEED: [u8; 32] = [0x5e; 32];
/// Nothing here waits for a clock; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(60);
const LENGTHS: [usize; 7] = [1, 100, 1023, 1024, 1025, 4096, 10_241];

struct Key(SigningKey);

impl Identity for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign(challenge).to_bytes()
    }
}

fn us() -> Key {
    Key(SigningKey::from_bytes(&[0x35; 32]))
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7) as u8).collect()
}

/// What the other implementation found: our key and node id, or its error.
type Met = Result<([u8; 32], Vec<u8>), String>;

/// The other implementation in a thread: it shakes hands, then sends back every message of `LENGTHS` with its bytes reversed.
fn peer(version: Version) -> (UnixStream, JoinHandle<Met>) {
    let (here, there) = UnixStream::pair().unwrap();
    for end in [&here, &there] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        end.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    let thread = thread::spawn(move || {
        let end = there.try_clone().unwrap();
        let made = SecretConnection::new(there, ed25519_consensus::SigningKey::from(SEED), version);
        let met = made.map_err(|error| error.to_string()).and_then(|mut connection| {
            for length in LENGTHS {
                let mut said = vec![0; length];
                connection.read_exact(&mut said).map_err(|error| error.to_string())?;
                said.reverse();
                connection.write_all(&said).map_err(|error| error.to_string())?;
            }
            let found = connection.remote_pubkey();
            Ok((*found.ed25519().unwrap().as_bytes(), found.peer_id().as_bytes().to_vec()))
        });
        // Whoever still waits for it learns that it is gone.
        let _closed = end.shutdown(Shutdown::Both);
        met
    });
    (here, thread)
}

/// Our side, over the socket. None: the peer hung up.
fn shake(
    stream: &mut UnixStream,
    mut handshake: Handshake,
    mut out: Vec<u8>,
) -> Result<Option<Established>, SecretError> {
    let mut buffer = [0; 700];
    loop {
        if stream.write_all(&out).is_err() {
            return Ok(None);
        }
        out.clear();
        let length = match stream.read(&mut buffer) {
            Ok(length) if length > 0 => length,
            _ => return Ok(None),
        };
        let progress = handshake.push(buffer.get(..length).unwrap(), &us(), &mut out)?;
        if let Progress::Established(established) = progress {
            return Ok(stream.write_all(&out).is_ok().then_some(*established));
        }
    }
}

#[test]
fn another_implementation_understands_us_and_is_understood_in_every_version() {
    for (variant, version) in VERSIONS {
        for (expect, first) in [(Expect::Auto, false), (Expect::Only(variant), false), (Expect::Only(variant), true)] {
            // A few ephemeral keys: which one is lower decides the keys of both directions.
            for ephemeral in 1..9 {
                let name = format!("{variant}, {expect:?}, first {first}, {ephemeral}");
                let (mut stream, thread) = peer(version);
                let (mut handshake, mut out) = (Handshake::new(expect, [ephemeral; 32]), Vec::new());
                if first {
                    handshake.speak_first(variant, &mut out);
                }
                let mut standing =
                    shake(&mut stream, handshake, out).unwrap().unwrap_or_else(|| panic!("{name}: hung up"));
                let theirs = ed25519_consensus::SigningKey::from(SEED).verification_key();
                assert_eq!((standing.variant, standing.peer), (variant, *theirs.as_bytes()), "{name}");
                let mut answer = standing.rest.clone();
                for length in LENGTHS {
                    let mut sealed = Vec::new();
                    standing.sealer.seal(&message(length), &mut sealed).unwrap();
                    stream.write_all(&sealed).unwrap();
                    while answer.len() < length {
                        let mut buffer = [0; 1500];
                        let got = stream.read(&mut buffer).unwrap();
                        assert!(got > 0, "{name}: it hung up at {length} bytes");
                        standing.opener.push(buffer.get(..got).unwrap(), &mut answer).unwrap();
                    }
                    let expected: Vec<u8> = message(length).into_iter().rev().collect();
                    assert!(answer == expected, "{name}: {length} bytes came back changed");
                    answer.clear();
                }
                let (key, id) = thread.join().unwrap().unwrap();
                assert_eq!(key, us().public_key(), "{name}");
                assert_eq!(id, node_id(&us().public_key()), "{name}: node id");
            }
        }
    }
}

#[test]
fn a_configured_version_does_not_meet_another() {
    for (spoken, version) in VERSIONS {
        for (expected, _) in VERSIONS.into_iter().filter(|(expected, _)| *expected != spoken) {
            let (mut stream, thread) = peer(version);
            let shaken = shake(&mut stream, Handshake::new(Expect::Only(expected), [9; 32]), Vec::new());
            drop(stream);
            let theirs = thread.join().unwrap();
            assert!(theirs.is_err(), "{expected} with {spoken}: it took us for its like");
            match shaken {
                Err(SecretError::Variant { expected: named, found }) => {
                    assert_eq!((named, found.family()), (expected, spoken.family()));
                }
                // It was the first to notice that the signature is over another challenge.
                Ok(None) => assert_eq!(spoken.family(), expected.family()),
                Err(error) => panic!("{expected} with {spoken}: {error}"),
                Ok(Some(_)) => panic!("{expected} with {spoken}: they met"),
            }
        }
    }
}

#[test]
fn another_implementation_refuses_an_identity_that_is_not_ours() {
    struct Liar;
    impl Identity for Liar {
        fn public_key(&self) -> [u8; 32] {
            us().public_key()
        }
        fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
            SigningKey::from_bytes(&[0x36; 32]).sign(challenge).to_bytes()
        }
    }
    for (_, version) in VERSIONS {
        let (mut stream, thread) = peer(version);
        let (mut handshake, mut out, mut buffer) = (Handshake::new(Expect::Auto, [9; 32]), Vec::new(), [0; 2048]);
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            out.clear();
            handshake.push(buffer.get(..length).unwrap(), &Liar, &mut out).map(drop).unwrap();
            stream.write_all(&out).unwrap();
        }
        let refused = thread.join().unwrap().unwrap_err();
        assert!(refused.contains("signature"), "{refused}");
    }
}
