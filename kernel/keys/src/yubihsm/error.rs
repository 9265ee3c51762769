//! What can go wrong with a YubiHSM, each with a stable code and what to do.

use std::io;
use yubihsm::client;

/// A device that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("YubiHSM at {place}: {kind}")]
pub struct HsmError {
    /// Where the device is.
    pub place: String,
    /// What is wrong.
    pub kind: HsmErrorKind,
}

/// What is wrong with a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsmErrorKind {
    /// Nobody answers.
    #[error("the connector cannot be reached: {0}")]
    Unreachable(String),
    /// Wrong password, or no such authentication key.
    #[error("authentication key {0} is not accepted: its password is wrong, or the device has no such key")]
    Authentication(u16),
    /// All sixteen sessions are taken.
    #[error("all of its sessions are taken")]
    SessionsFull,
    /// No object of this number.
    #[error("it has no key {0:#06x}")]
    NoKey(u16),
    /// No wrap key of this number.
    #[error("it has no wrap key {0:#06x}")]
    NoWrapKey(u16),
    /// A key of another kind.
    #[error("key {id:#06x} is {found}, and {wanted} is configured")]
    KeyType {
        /// Its number.
        id: u16,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Another device than the one that is configured, or that was there before.
    #[error("its serial number is {found}, not {wanted}")]
    Serial {
        /// The number that it shows.
        found: String,
        /// The number that it should have.
        wanted: String,
    },
    /// The same number holds another key than before.
    #[error("key {0:#06x} is another key than before: the device was replaced or set up anew")]
    Replaced(u16),
    /// The signature does not belong to the key.
    #[error("the signature of key {0:#06x} does not verify, and is not given out")]
    BadSignature(u16),
    /// This authentication key may not do that.
    #[error("the authentication key has no right to do this")]
    Permission,
    /// A file with a password.
    #[error("{path}: {why}")]
    Password {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The adapter was not built in.
    #[error("this build has no USB adapter")]
    NoUsb,
    /// A key of this number is there.
    #[error("it has a key {0:#06x}, and a key is never written over")]
    Exists(u16),
    /// Anything else that the device says.
    #[error("{0}")]
    Device(String),
}

impl HsmErrorKind {
    /// From what a client says. `authentication` is the number of the key that opens its sessions.
    pub(super) fn of(error: &client::Error, authentication: u16) -> Self {
        use yubihsm::device::ErrorKind as Device;
        match error.device_error() {
            Some(Device::SessionsFull) => return Self::SessionsFull,
            Some(Device::AuthenticationFailed) => return Self::Authentication(authentication),
            Some(Device::InsufficientPermissions) => return Self::Permission,
            Some(other) => return Self::Device(other.to_string()),
            None => {}
        }
        match error.kind() {
            client::ErrorKind::AuthenticationError => Self::Authentication(authentication),
            client::ErrorKind::ConnectorError => Self::Unreachable(causes(error)),
            _ if chain(error).any(|cause| cause.is::<yubihsm::connector::Error>()) => Self::Unreachable(causes(error)),
            _ if chain(error).any(|cause| cause.to_string().contains("card cryptogram")) => {
                Self::Authentication(authentication)
            }
            _ => Self::Device(causes(error)),
        }
    }

    /// Whether asking again later may help.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::SessionsFull | Self::Device(_))
    }
}

/// An error and what it comes from.
fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// An error with its causes, in one line. Each says its own causes again, some twice: nothing is repeated.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for words in chain(error).map(ToString::to_string) {
        for part in words.split(": ").filter(|part| !part.is_empty()) {
            if !said.iter().any(|known| known == part) {
                said.push(part.into());
            }
        }
    }
    said.join(": ")
}

impl HsmError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self.kind {
            HsmErrorKind::Unreachable(_) => "HSM-0001",
            HsmErrorKind::Authentication(_) => "HSM-0002",
            HsmErrorKind::SessionsFull => "HSM-0003",
            HsmErrorKind::NoKey(_) | HsmErrorKind::NoWrapKey(_) => "HSM-0004",
            HsmErrorKind::KeyType { .. } => "HSM-0005",
            HsmErrorKind::Serial { .. } => "HSM-0006",
            HsmErrorKind::Replaced(_) => "HSM-0007",
            HsmErrorKind::BadSignature(_) => "HSM-0008",
            HsmErrorKind::Permission => "HSM-0009",
            HsmErrorKind::Password { .. } => "HSM-0010",
            HsmErrorKind::NoUsb => "HSM-0011",
            HsmErrorKind::Device(_) => "HSM-0012",
            HsmErrorKind::Exists(_) => "HSM-0013",
        }
    }

    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self.kind {
            HsmErrorKind::Unreachable(_) => {
                "is yubihsm-connector running, and the device plugged in? `curl http://HOST:PORT/connector/status` tells"
            }
            HsmErrorKind::Authentication(_) => {
                "compare `auth` of [[providers.yubihsm]] with the passwords of `yubihsm setup`"
            }
            HsmErrorKind::SessionsFull => {
                "a device has 16 sessions; one process with several -c needs one, and idle ones end after 30 s"
            }
            HsmErrorKind::NoKey(_) => {
                "`yubihsm keys list` shows what it has; the number is `key` in [[providers.yubihsm]]"
            }
            HsmErrorKind::NoWrapKey(_) => "`yubihsm setup` makes wrap key 1; --wrapkey names another",
            HsmErrorKind::KeyType { .. } => {
                "`type` of the key in [[providers.yubihsm]] is consensus for Ed25519, account for secp256k1"
            }
            HsmErrorKind::Serial { .. } => "plug in the right device, or correct serial_number",
            HsmErrorKind::Replaced(_) => {
                "nothing is signed until the device with the known key is back; a new key needs a restart"
            }
            HsmErrorKind::BadSignature(_) => "the device or its connection is faulty: do not use it",
            HsmErrorKind::Permission => {
                "use an authentication key with this capability; operators and admins have more than validators"
            }
            HsmErrorKind::Password { .. } => "let the user that runs the signer own the file, mode 0600",
            HsmErrorKind::NoUsb => {
                "run yubihsm-connector and use adapter = { type = \"http\", addr = \"tcp://127.0.0.1:12345\" }"
            }
            HsmErrorKind::Exists(_) => "take another number; `yubihsm keys list` shows those in use",
            HsmErrorKind::Device(_) => "try `yubihsm test KEY`, and look at the connector's log",
        }
    }

    pub(super) fn password(place: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let kind = HsmErrorKind::Password { path: path.display().to_string(), why: error.to_string() };
        Self { place: place.into(), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Said(&'static str, #[source] Option<Box<Said>>);
        let inner = Said("bad response: 400", None);
        let middle = Said("protocol error: bad response: 400", Some(Box::new(inner)));
        let outer = Said("protocol error: protocol error: bad response: 400", Some(Box::new(middle)));
        assert_eq!(causes(&outer), "protocol error: bad response: 400");
        assert_eq!(causes(&Said("alone", None)), "alone");
    }
}
