//! The handshake of SecretConnection: both sides of ours against each other, what tells the variants apart, and peers that lie.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use merlin::Transcript;
use semel_kms::core::node_id;
use semel_kms::core::secret::{
    Established, Expect, FRAME_LEN, Handshake, Identity, Opener, Progress, Sealer, SecretError, Variant,
};
use sha2::{Digest as _, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};

const VARIANTS: [Variant; 3] = [Variant::Legacy, Variant::V033, Variant::V034];

/// An honest side.
struct Key(SigningKey);

impl Key {
    fn of(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }
}

impl Identity for Key {
    fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    fn sign_challenge(&self, challenge: &[u8; 32]) -> [u8; 64] {
        self.0.sign(challenge).to_bytes()
    }
}

fn us() -> Key {
    Key::of([1; 32])
}

fn node() -> Key {
    Key::of([2; 32])
}

/// Pushes bytes; what is to be sent is appended to `out`.
fn push(
    handshake: &mut Handshake,
    bytes: &[u8],
    identity: &dyn Identity,
    out: &mut Vec<u8>,
) -> Result<Option<Box<Established>>, SecretError> {
    Ok(match handshake.push(bytes, identity, out)? {
        Progress::Waiting => None,
        Progress::Established(established) => Some(established),
    })
}

fn family_byte(variant: Variant) -> u8 {
    if variant == Variant::V034 { 0x22 } else { 0x21 }
}

/// Lets two sides talk until both stand or one fails; the error says which.
fn meet(
    first: (&mut Handshake, &dyn Identity),
    second: (&mut Handshake, &dyn Identity),
    mut said: Vec<u8>,
) -> Result<[Box<Established>; 2], (usize, SecretError)> {
    let mut sides = [first, second];
    let mut standing = [None, None];
    let mut listening = 1;
    for _turn in 0..8 {
        let (handshake, identity) = &mut sides[listening];
        let mut answer = Vec::new();
        if !said.is_empty() {
            let established = push(handshake, &said, *identity, &mut answer).map_err(|error| (listening, error))?;
            standing[listening] = standing[listening].take().or(established);
        }
        if let [Some(_), Some(_)] = &standing {
            return Ok(standing.map(Option::unwrap));
        }
        said = answer;
        listening = 1 - listening;
    }
    panic!("the two sides wait for each other")
}

#[test]
fn a_signer_that_expects_anything_understands_every_node() {
    for variant in VARIANTS {
        for seed in 10..26u8 {
            // Different keys, so that either side has the lower ephemeral one.
            let mut at_node = Handshake::new(Expect::Only(variant), [seed; 32]);
            let mut at_signer = Handshake::new(Expect::Auto, [seed.wrapping_mul(37); 32]);
            let mut said = Vec::new();
            at_node.speak_first(variant, &mut said);
            assert_eq!(said[0], family_byte(variant));
            assert!(at_signer.is_silent() && at_node.is_silent());
            let met = meet((&mut at_node, &node()), (&mut at_signer, &us()), said);
            let [mut ours, mut theirs] = met.unwrap_or_else(|(side, error)| panic!("{variant}: side {side}: {error}"));
            assert!(!at_signer.is_silent());
            assert_eq!((ours.variant, theirs.variant), (variant, variant));
            assert_eq!((ours.peer, theirs.peer), (us().public_key(), node().public_key()));
            for message in [&b"question"[..], &[7; 3000]] {
                let (mut sealed, mut opened) = (Vec::new(), Vec::new());
                ours.sealer.seal(message, &mut sealed).unwrap();
                theirs.opener.push(&sealed, &mut opened).unwrap();
                sealed.clear();
                theirs.sealer.seal(message, &mut sealed).unwrap();
                ours.opener.push(&sealed, &mut opened).unwrap();
                assert_eq!(opened, message.repeat(2));
            }
        }
    }
}

#[test]
fn a_configured_version_meets_itself_and_an_error_names_both_where_the_node_speaks_another() {
    for expected in VARIANTS {
        for spoken in VARIANTS {
            let mut at_node = Handshake::new(Expect::Only(spoken), [3; 32]);
            let mut at_signer = Handshake::new(Expect::Only(expected), [4; 32]);
            let mut said = Vec::new();
            at_node.speak_first(spoken, &mut said);
            let met = meet((&mut at_node, &node()), (&mut at_signer, &us()), said);
            if expected == spoken {
                assert!(met.is_ok(), "{expected}");
                continue;
            }
            let Err((_, SecretError::Variant { expected: named, found })) = met else {
                panic!("{expected} with {spoken}: no error of the right kind")
            };
            // Whoever notices first says so; amino does not tell its version before the identity.
            let sides = [(expected, spoken), (spoken, expected)];
            let as_amino = |variant| if variant == Variant::V034 { Variant::V034 } else { Variant::V033 };
            let matches = sides.iter().any(|(a, b)| named == *a && (found == *b || found == as_amino(*b)));
            assert!(matches, "{expected} with {spoken}: expected {named}, found {found}");
            let text = SecretError::Variant { expected: named, found }.to_string();
            assert!(text.contains(&named.to_string()) && text.contains(&found.to_string()), "{text}");
        }
    }
}

#[test]
fn a_signer_that_reads_first_says_nothing_before_the_node_has_spoken() {
    for variant in VARIANTS {
        let mut said = Vec::new();
        Handshake::new(Expect::Auto, [5; 32]).speak_first(variant, &mut said);
        let mut at_signer = Handshake::new(Expect::Auto, [6; 32]);
        let (last, head) = said.split_last().unwrap();
        let mut out = Vec::new();
        for byte in head {
            assert!(push(&mut at_signer, &[*byte], &us(), &mut out).unwrap().is_none());
            assert!(out.is_empty(), "{variant}: it spoke too early");
        }
        push(&mut at_signer, &[*last], &us(), &mut out).unwrap();
        let ephemeral = said.len();
        // In amino the identity waits: the node's own tells over which challenge it has to be.
        let expected = if variant == Variant::V034 { ephemeral + FRAME_LEN } else { ephemeral };
        assert_eq!((out.len(), out[0]), (expected, family_byte(variant)), "{variant}");
    }
}

#[test]
fn a_signer_that_has_spoken_first_stays_with_its_word_and_says_it_once() {
    for (ours, theirs) in
        [(Variant::V034, Variant::V033), (Variant::V033, Variant::V034), (Variant::Legacy, Variant::V034)]
    {
        let (mut said, mut out) = (Vec::new(), Vec::new());
        Handshake::new(Expect::Auto, [5; 32]).speak_first(theirs, &mut said);
        let mut at_signer = Handshake::new(Expect::Auto, [6; 32]);
        at_signer.speak_first(ours, &mut out);
        at_signer.speak_first(theirs, &mut out);
        assert_eq!((out.len(), out[0]), (if ours == Variant::V034 { 35 } else { 34 }, family_byte(ours)));
        let failed = push(&mut at_signer, &said, &us(), &mut out).err();
        assert_eq!(failed, Some(SecretError::Variant { expected: ours, found: theirs }));
    }
}

#[test]
fn a_signer_that_has_guessed_the_wrong_amino_version_learns_the_right_one() {
    let (mut said, mut out) = (Vec::new(), Vec::new());
    let mut at_node = Handshake::new(Expect::Only(Variant::Legacy), [5; 32]);
    at_node.speak_first(Variant::Legacy, &mut said);
    let mut at_signer = Handshake::new(Expect::Auto, [6; 32]);
    at_signer.speak_first(Variant::V033, &mut out);
    push(&mut at_signer, &said, &us(), &mut out).unwrap();
    let mut identity = Vec::new();
    // The node does not take the identity that it gets, which was sent too early to be over the right challenge.
    let failed = push(&mut at_node, &out, &node(), &mut identity).err();
    assert_eq!(failed, Some(SecretError::Variant { expected: Variant::Legacy, found: Variant::V033 }));
    let established = push(&mut at_signer, &identity, &us(), &mut out).unwrap().unwrap();
    assert_eq!(established.variant, Variant::Legacy);
}

#[test]
fn what_is_no_handshake_is_told_apart_at_the_first_byte_that_differs() {
    let table: [(&str, &[u8], &str); 6] = [
        ("http", b"HTTP/1.1 400 Bad Request", "485454502F312E31"),
        ("tls", &[0x16, 0x03, 0x01], "160301"),
        ("amino of another length", &[0x21, 0x21], "2121"),
        ("protobuf of another field", &[0x22, 0x12], "2212"),
        ("protobuf of another length", &[0x22, 0x0a, 0x21], "220A21"),
        ("a message of 2^40 bytes", &[0x80, 0x80, 0x80, 0x80, 0x80, 0x20], "808080808020"),
    ];
    for (name, said, shown) in table {
        let mut out = Vec::new();
        let failed = push(&mut Handshake::new(Expect::Auto, [6; 32]), said, &us(), &mut out).err();
        assert_eq!(failed, Some(SecretError::NotSecretConnection(shown.into())), "{name}");
        assert!(out.is_empty(), "{name}");
    }
}

#[test]
fn a_handshake_that_has_ended_takes_no_more() {
    let (mut at_node, mut at_signer) =
        (Handshake::new(Expect::Only(Variant::V034), [3; 32]), Handshake::new(Expect::Auto, [4; 32]));
    let mut said = Vec::new();
    at_node.speak_first(Variant::V034, &mut said);
    let [_, _] = meet((&mut at_node, &node()), (&mut at_signer, &us()), said).unwrap_or_else(|_| panic!("not met"));
    for bytes in [&[][..], &[0], &[0; FRAME_LEN]] {
        assert_eq!(push(&mut at_signer, bytes, &us(), &mut Vec::new()).err(), Some(SecretError::Identity));
    }
}

// ---- peers that lie ----

/// A peer that follows the protocol with a derivation of its own, so that it can stop to.
struct Stranger {
    secret: StaticSecret,
    variant: Variant,
}

impl Stranger {
    fn new(variant: Variant) -> Self {
        Self { secret: StaticSecret::from([77; 32]), variant }
    }

    fn head(&self) -> &'static [u8] {
        if self.variant == Variant::V034 { &[0x22, 0x0a, 0x20] } else { &[0x21, 0x20] }
    }

    fn ephemeral(&self) -> Vec<u8> {
        [self.head(), PublicKey::from(&self.secret).as_bytes()].concat()
    }

    /// The key that it sends with, the key that it receives with, and the challenge.
    fn keys(&self, answer: &[u8]) -> ([u8; 32], [u8; 32], [u8; 32]) {
        let (ours, theirs) = (PublicKey::from(&self.secret).to_bytes(), answer[self.head().len()..][..32].try_into());
        let theirs: [u8; 32] = theirs.unwrap();
        let shared = self.secret.diffie_hellman(&PublicKey::from(theirs));
        let mut okm = [0; 96];
        let info = b"TENDERMINT_SECRET_CONNECTION_KEY_AND_CHALLENGE_GEN";
        Hkdf::<Sha256>::new(None, shared.as_bytes()).expand(info, &mut okm).unwrap();
        let part = |at: usize| <[u8; 32]>::try_from(&okm[at..at + 32]).unwrap();
        let lower = ours < theirs;
        let mut challenge = part(64);
        if self.variant != Variant::Legacy {
            let mut transcript = Transcript::new(b"TENDERMINT_SECRET_CONNECTION_TRANSCRIPT_HASH");
            transcript.append_message(b"EPHEMERAL_LOWER_PUBLIC_KEY", if lower { &ours } else { &theirs });
            transcript.append_message(b"EPHEMERAL_UPPER_PUBLIC_KEY", if lower { &theirs } else { &ours });
            transcript.append_message(b"DH_SECRET", shared.as_bytes());
            transcript.challenge_bytes(b"SECRET_CONNECTION_MAC", &mut challenge);
        }
        if lower { (part(32), part(0), challenge) } else { (part(0), part(32), challenge) }
    }

    fn identity(&self, key: &[u8; 32], signature: &[u8; 64]) -> Vec<u8> {
        let head: &[u8] = match self.variant {
            Variant::V034 => &[0x66, 0x0a, 0x22, 0x0a, 0x20],
            Variant::Legacy | Variant::V033 => &[0x69, 0x0a, 0x25, 0x16, 0x24, 0xde, 0x64, 0x20],
        };
        [head, key, &[0x12, 0x40], signature].concat()
    }

    /// What a signer makes of this identity message, given the challenge.
    fn tries(&self, message: impl Fn(&[u8; 32]) -> Vec<u8>) -> Result<Option<Box<Established>>, SecretError> {
        let mut signer = Handshake::new(Expect::Auto, [6; 32]);
        let mut out = Vec::new();
        push(&mut signer, &self.ephemeral(), &us(), &mut out)?;
        let (send, _, challenge) = self.keys(&out);
        let mut sealed = Vec::new();
        Sealer::new(send).seal(&message(&challenge), &mut sealed)?;
        push(&mut signer, &sealed, &us(), &mut out)
    }
}

#[test]
fn the_challenge_and_keys_are_those_of_a_derivation_that_is_not_ours() {
    for variant in VARIANTS {
        let stranger = Stranger::new(variant);
        let honest =
            stranger.tries(|challenge| stranger.identity(&node().public_key(), &node().sign_challenge(challenge)));
        let established = honest.unwrap().unwrap();
        assert_eq!((established.variant, established.peer), (variant, node().public_key()));
        assert_eq!(node_id(&established.peer)[..], Sha256::digest(node().public_key())[..20]);

        let mut signer = Handshake::new(Expect::Auto, [6; 32]);
        let mut out = Vec::new();
        push(&mut signer, &stranger.ephemeral(), &us(), &mut out).unwrap();
        let (send, receive, challenge) = stranger.keys(&out);
        let mut sealed = Vec::new();
        let message = stranger.identity(&node().public_key(), &node().sign_challenge(&challenge));
        Sealer::new(send).seal(&message, &mut sealed).unwrap();
        push(&mut signer, &sealed, &us(), &mut out).unwrap();
        // And what it gets is our identity over the same challenge.
        let mut identity = Vec::new();
        Opener::new(receive).push(&out[stranger.ephemeral().len()..], &mut identity).unwrap();
        assert_eq!(identity, stranger.identity(&us().public_key(), &us().sign_challenge(&challenge)), "{variant}");
    }
}

#[test]
fn a_peer_is_only_whom_it_can_sign_for() {
    for variant in VARIANTS {
        let stranger = Stranger::new(variant);
        let named = node().public_key();
        let other = Key::of([9; 32]);
        let fails = |name: &str, key: &[u8; 32], sign: &dyn Fn(&[u8; 32]) -> [u8; 64], expected: SecretError| {
            let met = stranger.tries(|challenge| stranger.identity(key, &sign(challenge)));
            assert_eq!(met.err(), Some(expected), "{variant}: {name}");
        };
        let wrong = || SecretError::Signature;
        fails("another's name", &named, &|challenge| other.sign_challenge(challenge), wrong());
        fails("our own name", &us().public_key(), &|challenge| other.sign_challenge(challenge), wrong());
        fails("no signature", &named, &|_| [0; 64], wrong());
        fails("another challenge", &named, &|_| node().sign_challenge(&[0; 32]), wrong());
        for bit in (0..512).step_by(7) {
            let flipped = |challenge: &[u8; 32]| {
                let mut signature = node().sign_challenge(challenge);
                signature[bit / 8] ^= 1 << (bit % 8);
                signature
            };
            fails("a bit changed", &named, &flipped, wrong());
        }
        // A key of low order has signatures that hold for anything, where they are checked loosely.
        let mut low_order = [0; 32];
        low_order[0] = 1;
        let mut holds_for_anything = [0; 64];
        holds_for_anything[0] = 1;
        fails("a key of low order", &low_order, &|_| holds_for_anything, wrong());
        let no_point = [2; 32];
        fails("no point", &no_point, &|challenge| other.sign_challenge(challenge), SecretError::Identity);
    }
}

#[test]
fn a_signature_over_the_challenge_of_another_version_is_none() {
    // Protobuf has the newer challenge only; an identity over the old one would be a step back.
    let old = Stranger::new(Variant::Legacy);
    let new = Stranger::new(Variant::V034);
    let mut signer = Handshake::new(Expect::Auto, [6; 32]);
    let mut out = Vec::new();
    push(&mut signer, &new.ephemeral(), &us(), &mut out).unwrap();
    let (send, ..) = new.keys(&out);
    let (.., challenge) = old.keys(&out[1..]);
    let mut sealed = Vec::new();
    let message = new.identity(&node().public_key(), &node().sign_challenge(&challenge));
    Sealer::new(send).seal(&message, &mut sealed).unwrap();
    assert_eq!(push(&mut signer, &sealed, &us(), &mut out).err(), Some(SecretError::Signature));
}

#[test]
fn an_identity_message_has_one_shape() {
    for variant in VARIANTS {
        let stranger = Stranger::new(variant);
        let whole = |challenge: &[u8; 32]| stranger.identity(&node().public_key(), &node().sign_challenge(challenge));
        let length = whole(&[0; 32]).len();
        let head = length - 98;
        for at in (0..head).chain([head + 32, head + 33]) {
            let met = stranger.tries(|challenge| {
                let mut message = whole(challenge);
                message[at] ^= 1;
                message
            });
            assert_eq!(met.err(), Some(SecretError::Identity), "{variant}: byte {at}");
        }
        for cut in [0, 1, head, length - 1] {
            let met = stranger.tries(|challenge| whole(challenge)[..cut].to_vec());
            assert!(met.unwrap().is_none(), "{variant}: {cut} bytes are not all of it");
        }
        let met = stranger.tries(|challenge| [whole(challenge), b"at once".to_vec()].concat());
        assert_eq!(met.unwrap().unwrap().rest, b"at once", "{variant}");
        assert_eq!(stranger.tries(|_| b"no".to_vec()).err(), Some(SecretError::Identity), "{variant}: told early");
    }
}

#[test]
fn our_own_bytes_sent_back_are_no_peer() {
    for variant in VARIANTS {
        let mut signer = Handshake::new(Expect::Only(variant), [6; 32]);
        let mut said = Vec::new();
        signer.speak_first(variant, &mut said);
        let mut answer = Vec::new();
        push(&mut signer, &said, &us(), &mut answer).unwrap();
        assert_eq!(push(&mut signer, &answer, &us(), &mut Vec::new()).err(), Some(SecretError::Frame), "{variant}");
    }
}
