//! The eras of Mithril: which one is in force, which one comes next (§3.9).
//!
//! Markers are `{name, epoch}`; one without an epoch is announced and not dated. The era in force is the marker with the greatest
//! epoch that has begun; the next one is the last marker, if it is another.

use super::markers::{MARKERS_MAX, Signed};
use mithril_common::crypto_helper::ed25519::{Ed25519Signature, Ed25519VerificationKey};
use mithril_common::entities::{Epoch, SupportedEra};
use semel_guard::{Benign, EraMark, EraNameError};
use serde::{Deserialize, Serialize};

/// An era, and the epoch in which it begins, if that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraMarker {
    /// Its name: `pythagoras`.
    pub name: String,
    /// Its first epoch.
    pub epoch: Option<Epoch>,
}

impl EraMarker {
    /// A marker.
    pub fn new(name: impl Into<String>, epoch: Option<Epoch>) -> Self {
        Self { name: name.into(), epoch }
    }
}

/// What comes after the era in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextEra {
    /// Its marker.
    pub marker: EraMarker,
    /// The era; none: this program does not know it, and somebody should update.
    pub era: Option<SupportedEra>,
}

/// Eras at some epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eras {
    /// In force.
    pub current: SupportedEra,
    /// Its first epoch.
    pub since: Epoch,
    /// Announced.
    pub next: Option<NextEra>,
}

/// Why there is no era.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EraError {
    /// No marker has begun.
    #[error("no era has begun at epoch {0}")]
    None(Epoch),
    /// This program is too old.
    #[error("the era in force is {0}, which this version does not know: update it")]
    Unknown(String),
}

impl Eras {
    /// The eras at an epoch.
    ///
    /// # Errors
    /// None has begun, or the one in force is not known here.
    pub fn at(epoch: Epoch, markers: &[EraMarker]) -> Result<Eras, EraError> {
        let begun = markers.iter().filter_map(|marker| Some((marker.epoch.filter(|first| *first <= epoch)?, marker)));
        let (since, current) = begun.max_by_key(|(first, _)| *first).ok_or(EraError::None(epoch))?;
        let era = current.name.parse().map_err(|_| EraError::Unknown(current.name.escape_default().to_string()))?;
        let next = markers.last().filter(|last| last.name != current.name);
        let next = next.map(|marker| NextEra { era: marker.name.parse().ok(), marker: marker.clone() });
        Ok(Eras { current: era, since, next })
    }
}

/// Runs `then` with the message of markers, as the guard spells it.
///
/// # Errors
/// A name that is none.
pub fn with_message<T>(markers: &[EraMarker], then: impl FnOnce(&Benign<'_>) -> T) -> Result<T, EraNameError> {
    let marks: Result<Vec<_>, _> =
        markers.iter().map(|marker| EraMark::new(&marker.name, marker.epoch.map(|epoch| epoch.0))).collect();
    marks.map(|marks| then(&Benign::EraMarkers(&marks)))
}

/// The markers of a datum, when their signature is that of the key. None: it is another datum, or somebody else's.
pub fn markers_of_datum(datum: &[u8], key: &Ed25519VerificationKey) -> Option<Vec<EraMarker>> {
    let signed = Signed::<EraMarker>::of_datum(datum)?;
    let signature = Ed25519Signature::try_from(signed.signature?.as_str()).ok()?;
    let is_signed =
        with_message(&signed.markers, |message| key.verify(&message.bytes(), &signature).is_ok()).unwrap_or(false);
    is_signed.then_some(signed.markers)
}

/// Why era markers are not announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the next era has to begin after the current one: epoch {next} is not after epoch {current}")]
pub struct AnnounceError {
    current: Epoch,
    next: Epoch,
}

/// Markers that announce: the first era that this program knows from one epoch on, the second from another, or undated.
///
/// # Errors
/// The next era would not begin after the current one.
pub fn announce(current: Epoch, next: Option<Epoch>) -> Result<Vec<EraMarker>, AnnounceError> {
    if let Some(next) = next.filter(|next| *next <= current) {
        return Err(AnnounceError { current, next });
    }
    let epochs = [Some(current), next];
    Ok(SupportedEra::eras().iter().zip(epochs).map(|(era, epoch)| EraMarker::new(era.to_string(), epoch)).collect())
}

/// Markers of a list that was written as JSON: at most [`MARKERS_MAX`].
pub fn markers_of_json(text: &str) -> Option<Vec<EraMarker>> {
    serde_json::from_str::<Vec<EraMarker>>(text).ok().filter(|markers| markers.len() <= MARKERS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::markers::{datum_json, tests::cbor};
    use crate::host::keys;

    fn marker(name: &str, epoch: Option<u64>) -> EraMarker {
        EraMarker::new(name, epoch.map(Epoch))
    }

    #[test]
    fn the_era_in_force_is_the_latest_that_has_begun() {
        let both = [marker("pythagoras", Some(1)), marker("lagrange", Some(10))];
        let undated = [marker("pythagoras", Some(1)), marker("lagrange", None)];
        let unordered = [marker("lagrange", Some(10)), marker("pythagoras", Some(1))];
        for (markers, epoch, current, next) in [
            (&both[..], 1, SupportedEra::Pythagoras, Some("lagrange")),
            (&both, 9, SupportedEra::Pythagoras, Some("lagrange")),
            (&both, 10, SupportedEra::Lagrange, None),
            (&undated, 99, SupportedEra::Pythagoras, Some("lagrange")),
            (&both[..1], 5, SupportedEra::Pythagoras, None),
            (&unordered, 5, SupportedEra::Pythagoras, None),
        ] {
            let eras = Eras::at(Epoch(epoch), markers).unwrap();
            assert_eq!(eras.current, current, "{markers:?} at {epoch}");
            assert_eq!(eras.next.map(|next| next.marker.name), next.map(str::to_owned), "{markers:?} at {epoch}");
        }
    }

    #[test]
    fn no_era_and_an_unknown_one_are_errors_and_an_unknown_next_one_is_told() {
        assert_eq!(Eras::at(Epoch(0), &[marker("pythagoras", Some(1))]), Err(EraError::None(Epoch(0))));
        assert_eq!(Eras::at(Epoch(0), &[]), Err(EraError::None(Epoch(0))));
        let unknown = [marker("pythagoras", Some(1)), marker("euler", Some(5))];
        assert_eq!(Eras::at(Epoch(5), &unknown), Err(EraError::Unknown("euler".into())));
        let next = Eras::at(Epoch(4), &unknown).unwrap().next.unwrap();
        assert_eq!((next.marker.name.as_str(), next.era), ("euler", None));
    }

    #[test]
    fn the_message_is_the_compact_json_that_serde_writes() {
        let markers = [marker("pythagoras", Some(1)), marker("lagrange", None)];
        let message = with_message(&markers, |message| message.bytes()).unwrap();
        assert_eq!(message, serde_json::to_vec(&markers).unwrap());
    }

    #[test]
    fn a_datum_counts_with_the_right_signature_only() {
        let directory = tempfile::tempdir().unwrap();
        let public = keys::generate(directory.path(), "era").unwrap();
        let other = keys::generate(directory.path(), "other").unwrap();
        let key = keys::load(&directory.path().join("era.sk")).unwrap();
        let markers = announce(Epoch(5), Some(Epoch(9))).unwrap();
        let datum = with_message(&markers, |message| {
            let signature = keys::sign(&key, message).unwrap();
            datum_json(&message.bytes(), &signature.to_bytes_hex().unwrap())
        });
        let datum = cbor(&datum.unwrap());
        assert_eq!(markers_of_datum(&datum, &public), Some(markers));
        assert_eq!(markers_of_datum(&datum, &other), None);
        // Whatever byte is changed, the datum is none, or says the same.
        let mut changed = datum.clone();
        for at in 0..datum.len() {
            changed[at] ^= 1;
            assert_eq!(markers_of_datum(&changed, &public), None, "byte {at}");
            changed[at] ^= 1;
        }
    }

    #[test]
    fn the_next_era_begins_after_the_current_one() {
        assert!(announce(Epoch(5), Some(Epoch(5))).is_err());
        assert_eq!(announce(Epoch(5), None).unwrap(), [marker("pythagoras", Some(5)), marker("lagrange", None)]);
    }

    #[test]
    fn markers_that_mithril_signed_are_verified() {
        // The key of release-preprod, and what Mithril's documentation for operators shows as signed with it.
        let key = "5b35352c3232382c3134342c38372c3133382c3133362c34382c382c31342c3138372c38352c3134382c39372c3233322c3235352c3232392c\
            33382c3234342c3234372c3230342c3139382c31332c33312c3232322c32352c3136342c35322c3130322c39312c3132302c3230382c3134375d";
        let key = Ed25519VerificationKey::try_from(key).unwrap();
        for (epoch, signature) in [
            (
                Some(723),
                "fdcd45debabc148ef11c0bf71e42b7e583102dd5b8e486cd621a18e56136a57ff4f7bf9d036aed6148328a30a20eb6e79422ea4d1cc613e0bf97e14da64a5f00",
            ),
            (
                None,
                "a83a8dee3b875a7e8d259500a8ce14cc73587ef838899d269ad58aadd16086cfe0486528e54b841b3a1d5aa8b7176d55c0803337ca59fbd3654b2bdd5a480d05",
            ),
        ] {
            let markers = vec![marker("thales", Some(1)), marker("pythagoras", epoch)];
            let datum = with_message(&markers, |message| cbor(&datum_json(&message.bytes(), signature))).unwrap();
            assert_eq!(markers_of_datum(&datum, &key), Some(markers));
        }
    }
}
