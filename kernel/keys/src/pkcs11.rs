//! Keys in a PKCS#11 token: SoftHSM2, Nitrokey, Thales, and a YubiHSM through its own module.
//!
//! One thread and one session per token ([`crate::device::Worker`]), however many configurations name it. A wrong PIN is tried once per
//! process and token, because tokens lock themselves after a few. Each signature is verified before it leaves.

use crate::device::{Device, DeviceError, DeviceKey, SESSION_REOPENS, Worker, made, verified};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType as CkKeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use metrics::{Counter, counter};
use semel_guard::{Algorithm, PublicKey, Signature};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long one request may take with its time in the queue. A node gives up after 5 s.
const DEADLINE: Duration = Duration::from_secs(4);

/// Time between two attempts to open a session again.
const REOPEN: Duration = Duration::from_secs(1);

/// A session that nobody used for this long is looked after.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Objects that a search may find, at most.
const OBJECTS_MAX: usize = 1000;

/// Which token of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// By its label.
    Label(String),
    /// By its serial number.
    Serial(String),
    /// By the number of its slot.
    Slot(u64),
}

/// A token, and how it is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The module, a shared library.
    pub module: PathBuf,
    /// Which of its tokens.
    pub token: Selector,
    /// The user's PIN.
    pub pin: Zeroizing<String>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let module = self.module.display();
        match &self.token {
            Selector::Label(label) => write!(f, "token {label:?} of {module}"),
            Selector::Serial(serial) => write!(f, "token #{serial} of {module}"),
            Selector::Slot(slot) => write!(f, "slot {slot} of {module}"),
        }
    }
}

/// Which key of a token: by label, by id, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// CKA_LABEL.
    pub label: Option<String>,
    /// CKA_ID.
    pub id: Option<Vec<u8>>,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.label, &self.id) {
            (Some(label), Some(id)) => write!(f, "key {label:?} (id {})", hex::encode(id)),
            (Some(label), None) => write!(f, "key {label:?}"),
            (None, Some(id)) => write!(f, "key with id {}", hex::encode(id)),
            (None, None) => f.write_str("the only key"),
        }
    }
}

/// A token that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {kind}")]
pub struct TokenError {
    /// The token.
    pub place: String,
    /// What is wrong.
    pub kind: TokenErrorKind,
}

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenErrorKind {
    /// The library cannot be loaded, or does not start.
    #[error("the module cannot be loaded: {0}")]
    Module(String),
    /// No such token.
    #[error("there is no such token")]
    NoToken,
    /// Several tokens.
    #[error("{0} tokens match")]
    Tokens(usize),
    /// The PIN is wrong.
    #[error("the PIN is wrong; it is not tried again")]
    Pin,
    /// The token has locked itself.
    #[error("the PIN is locked")]
    Locked,
    /// No such key.
    #[error("it has no {0}")]
    NoKey(String),
    /// Several keys.
    #[error("{1} keys match {0}")]
    Keys(String, usize),
    /// A key of another kind.
    #[error("{0} is {1}, and {2} is configured")]
    KeyType(String, String, &'static str),
    /// The same words name another key than before.
    #[error("{0} is another key than before: the token was replaced or set up anew")]
    Replaced(String),
    /// The signature does not belong to the key.
    #[error("its signature does not verify, and is not given out")]
    BadSignature,
    /// Anything else that the token says.
    #[error("{0}")]
    Token(String),
}

impl TokenError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self.kind {
            TokenErrorKind::Module(_) => "P11-0001",
            TokenErrorKind::NoToken => "P11-0002",
            TokenErrorKind::Tokens(_) => "P11-0003",
            TokenErrorKind::Pin => "P11-0004",
            TokenErrorKind::Locked => "P11-0005",
            TokenErrorKind::NoKey(_) => "P11-0006",
            TokenErrorKind::Keys(..) => "P11-0007",
            TokenErrorKind::KeyType(..) => "P11-0008",
            TokenErrorKind::Replaced(_) => "P11-0009",
            TokenErrorKind::BadSignature => "P11-0010",
            TokenErrorKind::Token(_) => "P11-0011",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self.kind {
            TokenErrorKind::Module(_) => {
                "`module` is the path of the PKCS#11 library, as /usr/lib/softhsm/libsofthsm2.so; SoftHSM2 also needs its SOFTHSM2_CONF"
            }
            TokenErrorKind::NoToken => "`pkcs11-tool --module MODULE --list-token-slots` shows what is there",
            TokenErrorKind::Tokens(_) => "name the token by `serial` or `slot`",
            TokenErrorKind::Pin => "correct the PIN, then start again: a token locks itself after a few wrong ones",
            TokenErrorKind::Locked => "unlock the token with its SO PIN",
            TokenErrorKind::NoKey(_) => "`pkcs11-tool --module MODULE --login --list-objects` shows labels and ids",
            TokenErrorKind::Keys(..) => "name the key by `label` and `id`",
            TokenErrorKind::KeyType(..) => "`type` is consensus for Ed25519 and account for secp256k1",
            TokenErrorKind::Replaced(_) => "nothing is signed until the known key is back; a new key needs a restart",
            TokenErrorKind::BadSignature => "the token or its module is faulty: do not use it",
            TokenErrorKind::Token(_) => "try the key with `pkcs11-tool --sign`",
        }
    }
}

impl Place {
    fn error(&self, kind: TokenErrorKind) -> TokenError {
        TokenError { place: self.to_string(), kind }
    }

    fn failed(&self, error: &Error) -> TokenError {
        self.error(match error {
            Error::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _) => TokenErrorKind::Pin,
            Error::Pkcs11(RvError::PinLocked, _) => TokenErrorKind::Locked,
            other => TokenErrorKind::Token(other.to_string()),
        })
    }
}

struct Shared {
    place: Place,
    worker: Worker,
    keys: Arc<Mutex<Vec<Known>>>,
}

#[derive(Clone)]
struct Known {
    wanted: Wanted,
    public: PublicKey,
}

/// Every token that this process uses.
#[derive(Default)]
pub struct Tokens {
    modules: Vec<(PathBuf, Pkcs11)>,
    open: Vec<Shared>,
    /// A PIN that was wrong once is not tried again.
    wrong: Vec<(Place, TokenError)>,
}

impl Tokens {
    /// A key of a token. Opens the token if this process does not use it yet.
    pub fn key(&mut self, place: &Place, wanted: &Wanted, kind: Algorithm) -> Result<DeviceKey, TokenError> {
        let module = self.module(place)?;
        let shared = match self.open.iter().position(|shared| shared.place == *place) {
            Some(at) => at,
            None => {
                self.log_in(place, &module)?;
                let keys: Arc<Mutex<Vec<Known>>> = Arc::default();
                let token = Token {
                    place: place.clone(),
                    module: module.clone(),
                    keys: Arc::clone(&keys),
                    session: None,
                    since: Instant::now(),
                    last: None,
                    reopens: made(counter!(SESSION_REOPENS, "provider" => "pkcs11")),
                };
                let worker = Worker::start("pkcs11", token, DEADLINE)
                    .map_err(|error| place.error(TokenErrorKind::Token(error.to_string())))?;
                self.open.push(Shared { place: place.clone(), worker, keys });
                self.open.len() - 1
            }
        };
        let session = self.log_in(place, &module)?;
        let (_, public) = find(&session, place, wanted, kind)?;
        let Some(shared) = self.open.get(shared) else { return Err(place.error(TokenErrorKind::NoToken)) };
        let mut keys = shared.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.iter().any(|known| known.public == public) {
            keys.push(Known { wanted: wanted.clone(), public: public.clone() });
        }
        Ok(shared.worker.key(public))
    }

    /// A module is loaded once: it keeps one state for the whole process.
    fn module(&mut self, place: &Place) -> Result<Pkcs11, TokenError> {
        if let Some((_, module)) = self.modules.iter().find(|(path, _)| *path == place.module) {
            return Ok(module.clone());
        }
        let module = load(&place.module).map_err(|why| place.error(TokenErrorKind::Module(why)))?;
        self.modules.push((place.module.clone(), module.clone()));
        Ok(module)
    }

    fn log_in(&mut self, place: &Place, module: &Pkcs11) -> Result<Session, TokenError> {
        if let Some((_, error)) = self.wrong.iter().find(|(wrong, _)| wrong == place) {
            return Err(error.clone());
        }
        let opened = open(place, module);
        if let Err(error) = &opened
            && matches!(error.kind, TokenErrorKind::Pin | TokenErrorKind::Locked)
        {
            self.wrong.push((place.clone(), error.clone()));
        }
        opened
    }
}

/// Loads a module.
fn load(path: &Path) -> Result<Pkcs11, String> {
    let module = Pkcs11::new(path).map_err(|error| error.to_string())?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(module),
        Err(error) => Err(error.to_string()),
    }
}

/// The slot of the one token that is meant.
fn slot(place: &Place, module: &Pkcs11) -> Result<Slot, TokenError> {
    let slots = module.get_slots_with_token().map_err(|error| place.failed(&error))?;
    let found: Vec<Slot> = slots
        .into_iter()
        .filter(|slot| match (&place.token, module.get_token_info(*slot)) {
            (Selector::Slot(number), _) => slot.id() == *number,
            (Selector::Label(label), Ok(info)) => info.label() == label,
            (Selector::Serial(serial), Ok(info)) => info.serial_number() == serial,
            (_, Err(_)) => false,
        })
        .collect();
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(place.error(TokenErrorKind::NoToken)),
        several => Err(place.error(TokenErrorKind::Tokens(several.len()))),
    }
}

fn open(place: &Place, module: &Pkcs11) -> Result<Session, TokenError> {
    let slot = slot(place, module)?;
    let session = module.open_ro_session(slot).map_err(|error| place.failed(&error))?;
    let pin = AuthPin::new(place.pin.as_str().into());
    match session.login(UserType::User, Some(&pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(error) => Err(place.failed(&error)),
    }
}

/// The private key that is meant, and its public half.
fn find(
    session: &Session,
    place: &Place,
    wanted: &Wanted,
    kind: Algorithm,
) -> Result<(ObjectHandle, PublicKey), TokenError> {
    let failed = |error: &Error| place.failed(error);
    let template = |class| {
        let mut template = vec![Attribute::Class(class)];
        template.extend(wanted.label.as_ref().map(|label| Attribute::Label(label.as_bytes().to_vec())));
        template.extend(wanted.id.clone().map(Attribute::Id));
        template
    };
    let keys = session.find_objects(&template(ObjectClass::PRIVATE_KEY)).map_err(|error| failed(&error))?;
    let key = match keys.as_slice() {
        [key] => *key,
        [] => return Err(place.error(TokenErrorKind::NoKey(wanted.to_string()))),
        several => return Err(place.error(TokenErrorKind::Keys(wanted.to_string(), several.len().min(OBJECTS_MAX)))),
    };
    let asked = [AttributeType::KeyType, AttributeType::Id];
    let (mut found, mut id) = (None, None);
    for attribute in session.get_attributes(key, &asked).map_err(|error| failed(&error))? {
        match attribute {
            Attribute::KeyType(kind) => found = Some(kind),
            Attribute::Id(bytes) => id = Some(bytes),
            _ => {}
        }
    }
    let (fits, wanted_kind) = match kind {
        Algorithm::Ed25519 => (found == Some(CkKeyType::EC_EDWARDS), "a consensus (Ed25519) key"),
        _ => (found == Some(CkKeyType::EC), "an account (secp256k1) key"),
    };
    if !fits {
        let is = found.map_or_else(|| "a key of no type".into(), |kind| format!("a key of type {kind}"));
        return Err(place.error(TokenErrorKind::KeyType(wanted.to_string(), is, wanted_kind)));
    }
    // The point is with the public key; some tokens have it with the private one, too.
    let mut holders = vec![key];
    let mut public = vec![Attribute::Class(ObjectClass::PUBLIC_KEY)];
    public.extend(id.map(Attribute::Id));
    holders.extend(session.find_objects(&public).map_err(|error| failed(&error))?.into_iter().take(OBJECTS_MAX));
    for holder in holders {
        let Ok(attributes) = session.get_attributes(holder, &[AttributeType::EcPoint]) else { continue };
        for attribute in attributes {
            if let Attribute::EcPoint(point) = attribute
                && let Some(public) = public_of(&point, kind)
            {
                return Ok((key, public));
            }
        }
    }
    Err(place.error(TokenErrorKind::NoKey(format!("public half of {wanted}"))))
}

/// A public key from CKA_EC_POINT, which is DER (an OCTET STRING) or bare.
fn public_of(point: &[u8], kind: Algorithm) -> Option<PublicKey> {
    let bare = match point {
        [0x04, len, rest @ ..] if usize::from(*len) == rest.len() => rest,
        other => other,
    };
    match kind {
        Algorithm::Ed25519 => PublicKey::new(kind, bare).ok(),
        _ => {
            let key = k256::PublicKey::from_sec1_bytes(bare).ok()?;
            PublicKey::new(kind, &key.to_sec1_bytes()).ok()
        }
    }
}

/// A token, as its thread sees it.
struct Token {
    place: Place,
    module: Pkcs11,
    keys: Arc<Mutex<Vec<Known>>>,
    session: Option<Session>,
    /// When the session was used, or tried, last.
    since: Instant,
    /// Why there is no session.
    last: Option<TokenError>,
    reopens: Counter,
}

impl Token {
    fn known(&self) -> Vec<Known> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a session, and makes sure that the keys are those that were there.
    fn reopen(&mut self) {
        self.since = Instant::now();
        // A PIN that was wrong is wrong.
        if self.last.as_ref().is_some_and(|error| matches!(error.kind, TokenErrorKind::Pin | TokenErrorKind::Locked)) {
            return;
        }
        let opened = open(&self.place, &self.module).and_then(|session| {
            for known in self.known() {
                match find(&session, &self.place, &known.wanted, known.public.algorithm()) {
                    Ok((_, public)) if public == known.public => {}
                    Ok(_) => return Err(self.place.error(TokenErrorKind::Replaced(known.wanted.to_string()))),
                    Err(error) => return Err(error),
                }
            }
            Ok(session)
        });
        match opened {
            Ok(session) => {
                if self.last.take().is_some() {
                    tracing::info!("{}: the session is open again", self.place);
                    self.reopens.increment(1);
                }
                self.session = Some(session);
            }
            Err(error) => {
                if self.last.as_ref() != Some(&error) {
                    tracing::error!("{error}; {}", error.hint());
                }
                self.last = Some(error);
            }
        }
    }

    fn signed(&self, session: &Session, key: &PublicKey, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let known = self.known().into_iter().find(|known| known.public == *key);
        let known = known.ok_or_else(|| self.place.error(TokenErrorKind::NoKey("such key".into())))?;
        let (handle, public) = find(session, &self.place, &known.wanted, key.algorithm())?;
        if public != *key {
            return Err(self.place.error(TokenErrorKind::Replaced(known.wanted.to_string())));
        }
        let signed = match key.algorithm() {
            Algorithm::Ed25519 => {
                let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
                session.sign(&mechanism, handle, message)
            }
            _ => session.sign(&Mechanism::Ecdsa, handle, &Sha256::digest(message)),
        };
        signed.map_err(|error| self.place.failed(&error))
    }
}

impl Device for Token {
    fn sign(&mut self, key: &PublicKey, message: &[u8]) -> Result<Signature, DeviceError> {
        let Some(session) = &self.session else {
            let why = self.last.as_ref().map_or_else(|| "no session with the token yet".into(), ToString::to_string);
            return Err(DeviceError::Failed(why));
        };
        self.since = Instant::now();
        match self.signed(session, key, message) {
            Ok(bytes) => verified(key, message, &bytes)
                .ok_or_else(|| DeviceError::Failed(self.place.error(TokenErrorKind::BadSignature).to_string())),
            Err(error) => {
                tracing::error!("{error}; the session is opened again");
                self.session = None;
                let text = error.to_string();
                self.last = Some(error);
                self.since = Instant::now();
                Err(DeviceError::Failed(text))
            }
        }
    }

    fn rest(&mut self) -> Option<Duration> {
        match &self.session {
            Some(session) => {
                let left = KEEP_ALIVE.saturating_sub(self.since.elapsed());
                if left.is_zero() {
                    self.since = Instant::now();
                    if let Err(error) = session.get_session_info() {
                        let error = self.place.failed(&error);
                        tracing::error!("{error}; the session is opened again");
                        self.session = None;
                        self.last = Some(error);
                    }
                }
                Some(left.max(Duration::from_millis(10)))
            }
            None => {
                if self.last.is_none() || self.since.elapsed() >= REOPEN {
                    self.reopen();
                }
                Some(if self.session.is_some() { KEEP_ALIVE } else { REOPEN / 4 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_read_bare_and_wrapped_and_nothing_else_is_one() {
        let ed = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        let wrapped = [&[4, 32][..], &ed].concat();
        for point in [ed.to_vec(), wrapped] {
            assert_eq!(public_of(&point, Algorithm::Ed25519).unwrap().as_bytes(), ed);
        }
        let k = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let open = k.verifying_key().to_encoded_point(false);
        let short = k.verifying_key().to_encoded_point(true);
        let wrapped = [&[4, 65][..], open.as_bytes()].concat();
        for point in [open.as_bytes().to_vec(), wrapped, short.as_bytes().to_vec()] {
            assert_eq!(public_of(&point, Algorithm::Secp256k1).unwrap().as_bytes(), short.as_bytes());
        }
        for bad in [&[][..], &[4], &[4, 32], &[4, 31, 1], &[0; 31], &[0; 33]] {
            assert!(public_of(bad, Algorithm::Ed25519).is_none(), "{bad:?}");
            assert!(public_of(bad, Algorithm::Secp256k1).is_none(), "{bad:?}");
        }
    }
}
