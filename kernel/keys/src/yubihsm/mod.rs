//! Keys in a YubiHSM 2.
//!
//! All keys behind one adapter and authentication key share one session, however many configurations of this process name them. The
//! device's thread ([`crate::device::Worker`]) asks it one thing at a time, keeps the session alive, and verifies each signature
//! before it leaves. A session that breaks is opened again on a thread of its own: requests fail at once meanwhile, and nobody waits.

mod error;
mod open;
pub mod provision;
mod session;

pub use error::{HsmError, HsmErrorKind};
pub use open::Open;
pub use session::{KeyKind, Looked, YubiHsms};
pub use yubihsm::device::ErrorKind as DeviceErrorKind;
pub use yubihsm::{Capability, Client, Connector, Domain, asymmetric, object, setup, wrap};

use std::fmt;
use std::path::Path;
use yubihsm::{Credentials, HttpConfig};
use zeroize::Zeroizing;

/// Longest password file that is read, in bytes.
const PASSWORD_MAX: u64 = 4096;

/// How a device is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Adapter {
    /// Through a `yubihsm-connector`.
    Http {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Plugged in here.
    Usb {
        /// Longest wait for an answer, in milliseconds.
        timeout_ms: u64,
        /// Which device; None: the only one.
        serial: Option<u32>,
    },
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port } => write!(f, "http://{host}:{port}"),
            Self::Usb { serial: Some(serial), .. } => write!(f, "usb #{serial:010}"),
            Self::Usb { serial: None, .. } => f.write_str("usb"),
        }
    }
}

/// A password, wiped when it is dropped and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// From text.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// From a file, whose trailing white space does not count.
    pub fn read(adapter: &Adapter, path: &Path) -> Result<Self, HsmError> {
        use std::io::Read;
        let mut text = Zeroizing::new(String::new());
        let read = std::fs::File::open(path).and_then(|file| file.take(PASSWORD_MAX).read_to_string(&mut text));
        read.map_err(|error| HsmError::password(&adapter.to_string(), path, &error))?;
        Ok(Self::new(text.trim_end()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// A device, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// How it is reached.
    pub adapter: Adapter,
    /// Number of the authentication key.
    pub auth_key: u16,
    /// Its password.
    pub password: Password,
}

impl Place {
    pub(crate) fn error(&self, kind: HsmErrorKind) -> HsmError {
        HsmError { place: self.adapter.to_string(), kind }
    }

    /// A connection that opens sessions when it is asked something.
    pub fn connector(&self) -> Result<Connector, HsmError> {
        match &self.adapter {
            Adapter::Http { host, port } => {
                Ok(Connector::http(&HttpConfig { addr: host.clone(), port: *port, ..HttpConfig::default() }))
            }
            #[cfg(feature = "usb")]
            Adapter::Usb { timeout_ms, serial } => {
                let serial = serial.map(|serial| format!("{serial:010}").parse());
                let serial = serial
                    .transpose()
                    .map_err(|error: yubihsm::device::Error| self.error(HsmErrorKind::Device(error.to_string())))?;
                Ok(Connector::usb(&yubihsm::UsbConfig { serial, timeout_ms: *timeout_ms }))
            }
            #[cfg(not(feature = "usb"))]
            Adapter::Usb { .. } => Err(self.error(HsmErrorKind::NoUsb)),
        }
    }

    /// What opens a session.
    pub fn credentials(&self) -> Credentials {
        Credentials::from_password(self.auth_key, self.password.0.as_bytes())
    }

    /// A session. `reconnect`: it opens the next by itself, as a command at the terminal wants it.
    pub fn open(&self, reconnect: bool) -> Result<Open, HsmError> {
        let client = Client::open(self.connector()?, self.credentials(), reconnect);
        client.map(Open::new).map_err(|error| self.failed(&error))
    }

    /// A client's error, in our words.
    pub fn failed(&self, error: &yubihsm::client::Error) -> HsmError {
        self.error(HsmErrorKind::of(error, self.auth_key))
    }
}

/// Serial number and bus of each device that is plugged in here.
pub fn usb_devices() -> Result<Vec<(String, u8)>, HsmError> {
    #[cfg(feature = "usb")]
    {
        let devices = yubihsm::connector::usb::Devices::detect(Default::default());
        let devices =
            devices.map_err(|error| HsmError { place: "usb".into(), kind: HsmErrorKind::Device(error.to_string()) })?;
        Ok(devices.iter().map(|device| (device.serial_number.to_string(), device.bus_number())).collect())
    }
    #[cfg(not(feature = "usb"))]
    Err(HsmError { place: "usb".into(), kind: HsmErrorKind::NoUsb })
}
