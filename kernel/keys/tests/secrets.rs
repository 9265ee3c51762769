//! What is printed holds no secret, and what holds a secret cannot be copied.
#![expect(clippy::panic, reason = "a test may stop")]

mod scene;

use scene::{Place, base64, expanded, node_file};
use semel_guard::Key;
use semel_keys::identity::Identity;
use semel_keys::softsign::{Form, KeyType, SoftKey, generate, import, load};
use semel_keys::{KeyError, inspect};
use std::collections::HashSet;
use std::fmt::{Debug, Display};

/// Fewer characters than this of a secret are found by chance.
const FRAGMENT: usize = 8;

/// Every way in which a part of the secret could be spelled.
fn fragments(secrets: &[&[u8]]) -> HashSet<String> {
    let spelled = secrets.iter().flat_map(|secret| {
        let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        [base64(secret), hex::encode(secret), hex::encode_upper(secret), list]
    });
    let windows = |text: String| {
        let characters: Vec<char> = text.chars().collect();
        characters.windows(FRAGMENT).map(|window| window.iter().collect()).collect::<Vec<String>>()
    };
    spelled.flat_map(windows).collect()
}

/// Everything that was printed.
#[derive(Default)]
struct Printed(Vec<String>);

impl Printed {
    fn debug(&mut self, value: &impl Debug) {
        self.0.extend([format!("{value:?}"), format!("{value:#?}")]);
    }

    fn both(&mut self, value: &(impl Debug + Display)) {
        self.debug(value);
        self.0.push(value.to_string());
    }

    fn error(&mut self, error: &KeyError) {
        self.both(error);
        self.both(&error.kind);
        self.0.extend([error.code().to_owned(), error.hint().to_owned()]);
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            self.both(&error);
            source = error.source();
        }
    }
}

#[test]
fn nothing_that_is_printed_holds_a_part_of_the_secret() {
    for kind in [KeyType::Consensus, KeyType::Account] {
        let place = Place::new();
        let path = place.path("key");
        let (public, _) = generate(&path, kind, None).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (key, detected) = load(&path, Form::Base64, kind).unwrap();
        let secret = <[u8; 32]>::try_from(decoded(&text).as_slice()).unwrap();
        let (scalar_and_prefix, go) = (expanded(&secret), [&secret[..], public.as_bytes()].concat());
        let fragments = fragments(&[&secret, &scalar_and_prefix[..32], &scalar_and_prefix[32..]]);

        let mut printed = Printed::default();
        printed.debug(&key);
        printed.both(&detected);
        printed.both(&public);
        printed.debug(&inspect(&path));
        let key = Key::new(Box::new(key));
        printed.debug(&key);
        if kind == KeyType::Consensus {
            printed.debug(&Identity::load(&path).unwrap());
        }
        printed.error(&generate(&path, kind, None).unwrap_err());
        printed.error(&Identity::generate(&path, None).unwrap_err());
        // The secret in every wrong place.
        let json = |algorithm: &str| node_file("tendermint", algorithm, public.as_bytes(), &go);
        let good = json("Ed25519");
        let broken = [
            text[..43].into(),
            format!("{text}{text}"),
            base64(&[&secret[..], &secret, &secret].concat()),
            base64(&secret[..31]),
            base64(&[&secret[..], &[0]].concat()),
            hex::encode(secret),
            format!("key = {text}"),
            good[..good.len() - 5].into(),
            good[..good.len() - 50].into(),
            good.replace("value", "secret"),
            good.replace("tendermint/PrivKeyEd25519", &base64(&go)),
            good.replace("tendermint/PrivKeyEd25519", &format!("{text}/PrivKeyEd25519")),
            good.replace("tendermint/PrivKeyEd25519", &format!("tendermint/{}", hex::encode(secret))),
            good.replace(&base64(public.as_bytes()), &text),
            good.replace(&base64(public.as_bytes()), &base64(&[1; 32])),
            good.replace(&base64(&go), &format!("*{text}")),
            good.replace("\"priv_key\": {", &format!("\"priv_key\": \"{text}\", \"x\": {{")),
            format!("\"{text}\""),
            format!("{{\"priv_key\": {text}}}"),
            json("Secp256k1"),
            json("Sr25519"),
        ];
        let mut errors = 0;
        for content in broken {
            let file = place.file("broken", content);
            let tried = [
                load(&file, Form::Base64, kind).map(drop),
                load(&file, Form::Json, kind).map(drop),
                import(&file, &place.path("output"), None).map(drop),
                Identity::load(&file).map(drop),
            ];
            for error in tried.into_iter().filter_map(Result::err) {
                printed.error(&error);
                errors += 1;
            }
        }
        assert!(errors > 60, "only {errors} of the files were refused");
        for text in &printed.0 {
            let found = fragments.iter().find(|fragment| text.contains(*fragment));
            assert_eq!(found, None, "a part of the secret in: {text}");
        }
        // The search finds what is there.
        assert!(fragments.iter().any(|fragment| format!("{secret:?}").contains(fragment)));
        assert!(fragments.iter().any(|fragment| text.contains(fragment)));
    }
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Has one method of this name for every type, and another for those that can be cloned: for these the call has two meanings
/// and does not compile.
trait IsNotClone<Meaning> {
    fn is_not_clone() {}
}

struct Clonable;

impl<T: ?Sized> IsNotClone<()> for T {}
impl<T: Clone> IsNotClone<Clonable> for T {}

#[test]
fn what_holds_a_secret_cannot_be_cloned() {
    <SoftKey as IsNotClone<_>>::is_not_clone();
    <Identity as IsNotClone<_>>::is_not_clone();
    <Key as IsNotClone<_>>::is_not_clone();
}

#[test]
fn what_the_keys_are_made_of_is_wiped_when_they_are_dropped() {
    fn is_wiped<T: zeroize::ZeroizeOnDrop>() {}
    is_wiped::<ed25519_dalek::hazmat::ExpandedSecretKey>();
    is_wiped::<ed25519_dalek::SigningKey>();
    is_wiped::<k256::ecdsa::SigningKey>();
}
