//! Protocol configurations on the chain: what is certified from which epoch on, and with which parameters.
//!
//! On the chain a marker is `{epoch, configuration}`, the configuration being hex of CBOR; for people it is a JSON list, and that
//! is what they edit. A configuration is in force from its epoch up to the next one's. What is in force up to two epochs from now is
//! fixed, because signers have registered or are registering under it: only epochs from [`FREE_EPOCHS`] on may change.

use super::markers::{MARKERS_MAX, Signed};
use mithril_common::crypto_helper::ed25519::{Ed25519Signature, Ed25519VerificationKey};
use mithril_common::entities::{
    BlockNumber, BlockNumberOffset, CardanoBlocksTransactionsSigningConfig, CardanoTransactionsSigningConfig, Epoch,
    ProtocolParameters, SignedEntityTypeDiscriminants as Entity,
};
use pallas_codec::minicbor::data::Type;
use pallas_codec::minicbor::{Decoder, Encoder};
use semel_guard::Benign;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Longest datum that is announced, in bytes.
pub const ANNOUNCED_BYTES_MAX: usize = 10 * 1024;
/// Epochs from now to the first one that may still change.
pub const FREE_EPOCHS: u64 = 3;
/// Most fields and words of a configuration.
const FIELDS_MAX: u64 = 32;

/// What is certified from an epoch on, as people edit it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// First epoch.
    pub epoch: Epoch,
    /// Parameters.
    pub protocol_parameters: ProtocolParameters,
    /// Beacons of transactions; there exactly when they are certified.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "cardano_transactions_signing_config")]
    pub cardano_transaction_signing_config: Option<CardanoTransactionsSigningConfig>,
    /// Beacons of blocks and transactions; there exactly when they are certified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cardano_blocks_transactions_signing_config: Option<CardanoBlocksTransactionsSigningConfig>,
    /// What is certified.
    pub enabled_signed_entity_types: BTreeSet<Entity>,
}

/// A configuration as it stands in a datum.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Marker {
    /// First epoch.
    pub epoch: u64,
    /// Hex of CBOR.
    pub configuration: String,
}

/// Why configurations are not announced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// The list is empty, or too long.
    #[error("a list of 1 to {MARKERS_MAX} configurations is needed")]
    Count,
    /// Two begin in one epoch, or they are not in order.
    #[error("epochs have to rise: epoch {0} stands at the wrong place")]
    Order(Epoch),
    /// Parameters that cannot be.
    #[error("the parameters from epoch {0} on: {1}")]
    Parameters(Epoch, String),
    /// Types and their settings do not belong together.
    #[error("from epoch {0} on, {1} is certified without its signing configuration, or the other way round")]
    Inconsistent(Epoch, Entity),
    /// What is fixed would change.
    #[error("what is in force at epoch {0} is fixed on the chain and would change")]
    Fixed(Epoch),
    /// It does not fit.
    #[error("the datum has {0} bytes, and {ANNOUNCED_BYTES_MAX} are allowed")]
    TooLong(usize),
}

/// What `export-markers --default` writes.
pub fn defaults() -> Vec<Configuration> {
    vec![Configuration {
        epoch: Epoch(0),
        protocol_parameters: ProtocolParameters::new(2422, 20973, 0.2),
        cardano_transaction_signing_config: Some(CardanoTransactionsSigningConfig {
            security_parameter: BlockNumberOffset(100),
            step: BlockNumber(30),
        }),
        cardano_blocks_transactions_signing_config: Some(CardanoBlocksTransactionsSigningConfig {
            security_parameter: BlockNumberOffset(100),
            step: BlockNumber(30),
        }),
        enabled_signed_entity_types: Entity::all(),
    }]
}

/// The one in force at an epoch.
pub fn in_force(configurations: &[Configuration], epoch: Epoch) -> Option<&Configuration> {
    configurations.iter().filter(|one| one.epoch <= epoch).max_by_key(|one| one.epoch)
}

fn same(a: Option<&Configuration>, b: Option<&Configuration>) -> bool {
    let shape = |one: &Configuration| Configuration { epoch: Epoch(0), ..one.clone() };
    a.map(shape) == b.map(shape)
}

/// Checks what somebody edited, and against the chain, when it is known: `(current epoch, what is announced)`.
///
/// # Errors
/// The first thing that cannot be.
pub fn check(edited: &[Configuration], chain: Option<(Epoch, &[Configuration])>) -> Result<(), ConfigurationError> {
    if edited.is_empty() || edited.len() > MARKERS_MAX {
        return Err(ConfigurationError::Count);
    }
    for pair in edited.windows(2) {
        if let [before, after] = pair
            && after.epoch <= before.epoch
        {
            return Err(ConfigurationError::Order(after.epoch));
        }
    }
    for one in edited {
        check_one(one)?;
    }
    let Some((now, announced)) = chain.filter(|(_, announced)| !announced.is_empty()) else { return Ok(()) };
    let fixed = now.0.saturating_sub(2)..now.0.saturating_add(FREE_EPOCHS);
    match fixed.map(Epoch).find(|epoch| !same(in_force(edited, *epoch), in_force(announced, *epoch))) {
        Some(epoch) => Err(ConfigurationError::Fixed(epoch)),
        None => Ok(()),
    }
}

fn check_one(one: &Configuration) -> Result<(), ConfigurationError> {
    let parameters = &one.protocol_parameters;
    let found = parameters.check_parameters().map_err(|error| error.to_string());
    let finite = if parameters.phi_f.is_finite() { Ok(()) } else { Err("phi_f is no number".to_owned()) };
    found.and(finite).map_err(|why| ConfigurationError::Parameters(one.epoch, why))?;
    let (transactions, blocks) =
        (one.cardano_transaction_signing_config.as_ref(), one.cardano_blocks_transactions_signing_config.as_ref());
    for (entity, step) in [
        (Entity::CardanoTransactions, transactions.map(|config| config.step)),
        (Entity::CardanoBlocksTransactions, blocks.map(|config| config.step)),
    ] {
        let is_certified = one.enabled_signed_entity_types.contains(&entity);
        if is_certified != step.is_some() || step == Some(BlockNumber(0)) {
            return Err(ConfigurationError::Inconsistent(one.epoch, entity));
        }
    }
    Ok(())
}

/// CBOR of what is in force, without its epoch.
fn encode(one: &Configuration) -> Vec<u8> {
    let mut out = Encoder::new(Vec::new());
    // Writing to memory does not fail.
    let _written = encode_into(one, &mut out);
    out.into_writer()
}

type Written = Result<(), pallas_codec::minicbor::encode::Error<std::convert::Infallible>>;

fn encode_into(one: &Configuration, out: &mut Encoder<Vec<u8>>) -> Written {
    let beacons = [
        (
            "cardano_transactions",
            one.cardano_transaction_signing_config.as_ref().map(|c| (c.security_parameter, c.step)),
        ),
        (
            "cardano_blocks_transactions",
            one.cardano_blocks_transactions_signing_config.as_ref().map(|c| (c.security_parameter, c.step)),
        ),
    ];
    let beacons: Vec<_> = beacons.into_iter().filter_map(|(name, beacon)| Some((name, beacon?))).collect();
    out.map(beacons.len().saturating_add(2) as u64)?;
    let parameters = &one.protocol_parameters;
    out.str("protocol_parameters")?.map(3)?.str("k")?.u64(parameters.k)?.str("m")?.u64(parameters.m)?;
    out.str("phi_f")?.f64(parameters.phi_f)?;
    out.str("enabled_signed_entity_types")?.array(one.enabled_signed_entity_types.len() as u64)?;
    for entity in &one.enabled_signed_entity_types {
        out.str(entity.as_ref())?;
    }
    for (name, (security_parameter, step)) in beacons {
        out.str(name)?.map(2)?.str("security_parameter")?.u64(security_parameter.0)?.str("step")?.u64(step.0)?;
    }
    Ok(())
}

/// Reads what [`encode`] writes; fields that are not known are passed over.
fn decode(epoch: Epoch, bytes: &[u8]) -> Option<Configuration> {
    let mut decoder = Decoder::new(bytes);
    let (mut parameters, mut types, mut transactions, mut blocks) = (None, None, None, None);
    for _ in 0..count(decoder.map().ok()??)? {
        match decoder.str().ok()? {
            "protocol_parameters" => parameters = Some(decode_parameters(&mut decoder)?),
            "enabled_signed_entity_types" => {
                let words = (0..count(decoder.array().ok()??)?).map(|_| decoder.str().ok());
                // A type that this version does not know is none that it certifies.
                types = Some(words.collect::<Option<Vec<_>>>()?.iter().filter_map(|word| word.parse().ok()).collect());
            }
            "cardano_transactions" => transactions = decode_beacon(&mut decoder)?,
            "cardano_blocks_transactions" => blocks = decode_beacon(&mut decoder)?,
            _ => decoder.skip().ok()?,
        }
    }
    Some(Configuration {
        epoch,
        protocol_parameters: parameters?,
        cardano_transaction_signing_config: transactions
            .map(|(security_parameter, step)| CardanoTransactionsSigningConfig { security_parameter, step }),
        cardano_blocks_transactions_signing_config: blocks
            .map(|(security_parameter, step)| CardanoBlocksTransactionsSigningConfig { security_parameter, step }),
        enabled_signed_entity_types: types?,
    })
}

fn count(said: u64) -> Option<u64> {
    (said <= FIELDS_MAX).then_some(said)
}

fn decode_parameters(decoder: &mut Decoder<'_>) -> Option<ProtocolParameters> {
    let (mut k, mut m, mut phi_f) = (None, None, None);
    for _ in 0..count(decoder.map().ok()??)? {
        match decoder.str().ok()? {
            "k" => k = Some(decoder.u64().ok()?),
            "m" => m = Some(decoder.u64().ok()?),
            // Shorter floats are the same number.
            "phi_f" => {
                phi_f = Some(match decoder.datatype().ok()? {
                    Type::F16 => f64::from(decoder.f16().ok()?),
                    Type::F32 => f64::from(decoder.f32().ok()?),
                    _ => decoder.f64().ok()?,
                });
            }
            _ => decoder.skip().ok()?,
        }
    }
    Some(ProtocolParameters::new(k?, m?, phi_f?))
}

type Beacon = (BlockNumberOffset, BlockNumber);

#[expect(clippy::option_option, reason = "the outer one is for what cannot be read, the inner one for null")]
fn decode_beacon(decoder: &mut Decoder<'_>) -> Option<Option<Beacon>> {
    if decoder.datatype().ok()? == Type::Null {
        decoder.null().ok()?;
        return Some(None);
    }
    let (mut security_parameter, mut step) = (None, None);
    for _ in 0..count(decoder.map().ok()??)? {
        match decoder.str().ok()? {
            "security_parameter" => security_parameter = Some(decoder.u64().ok()?),
            "step" => step = Some(decoder.u64().ok()?),
            _ => decoder.skip().ok()?,
        }
    }
    Some(Some((BlockNumberOffset(security_parameter?), BlockNumber(step?))))
}

/// Runs `then` with the message of configurations, as the guard spells it.
pub fn with_message<T>(configurations: &[Configuration], then: impl FnOnce(&Benign<'_>) -> T) -> T {
    let encoded: Vec<_> = configurations.iter().map(|one| (one.epoch.0, encode(one))).collect();
    let shown: Vec<_> = encoded.iter().map(|(epoch, bytes)| (*epoch, bytes.as_slice())).collect();
    then(&Benign::ProtocolConfigurations(&shown))
}

/// The configurations of a datum, when their signature is that of the key.
pub fn configurations_of_datum(datum: &[u8], key: &Ed25519VerificationKey) -> Option<Vec<Configuration>> {
    let signed = Signed::<Marker>::of_datum(datum)?;
    let signature = Ed25519Signature::try_from(signed.signature?.as_str()).ok()?;
    let bytes: Option<Vec<_>> =
        signed.markers.iter().map(|one| Some((one.epoch, hex::decode(&one.configuration).ok()?))).collect();
    let bytes = bytes?;
    let shown: Vec<_> = bytes.iter().map(|(epoch, bytes)| (*epoch, bytes.as_slice())).collect();
    key.verify(&Benign::ProtocolConfigurations(&shown).bytes(), &signature).ok()?;
    bytes.iter().map(|(epoch, bytes)| decode(Epoch(*epoch), bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::markers::{datum_bytes, datum_json, tests::cbor};

    /// What the documentation of Mithril for operators shows.
    const SHOWN: &str = "a47370726f746f636f6c5f706172616d6574657273a3616b190798616d194234657068695f66fb3fc999999999999a781b656e61626c6\
        5645f7369676e65645f656e746974795f74797065738578184d69746872696c5374616b65446973747269627574696f6e781843617264616e6f5374616b6544\
        6973747269627574696f6e6f43617264616e6f44617461626173657343617264616e6f5472616e73616374696f6e73781943617264616e6f426c6f636b73547\
        2616e73616374696f6e737463617264616e6f5f7472616e73616374696f6e73a27273656375726974795f706172616d657465720064737465700f781b636172\
        64616e6f5f626c6f636b735f7472616e73616374696f6e73a27273656375726974795f706172616d6574657218646473746570181e";

    fn shown() -> Configuration {
        let mut one = defaults().remove(0);
        one.epoch = Epoch(1386);
        one.protocol_parameters = ProtocolParameters::new(1944, 16948, 0.2);
        one.cardano_transaction_signing_config =
            Some(CardanoTransactionsSigningConfig { security_parameter: BlockNumberOffset(0), step: BlockNumber(15) });
        one
    }

    #[test]
    fn a_configuration_is_encoded_as_the_documentation_shows_it() {
        assert_eq!(hex::encode(encode(&shown())), SHOWN);
        assert_eq!(decode(Epoch(1386), &hex::decode(SHOWN).unwrap()).unwrap(), shown());
    }

    #[test]
    fn a_configuration_that_mithril_signed_is_verified() {
        // The key of testing-preview, and what Mithril's documentation for operators shows as signed with it.
        let key = "5b3232392c31382c302c3132312c31302c31372c3130302c3133302c3230322c34382c3134302c35352c37332c3139302c392c3232342c3134\
            392c31342c3136352c34312c3233312c3136322c31322c3139372c3130352c3130372c3231372c3138302c3234352c3136382c32362c3133325d";
        let signature = "6310e8eab0261643a5115cfe331d78c1826d5637c2cf28ae0e4df72cc11b95657c6948ff468227ffc2f16471bb3fc3e44973ec30a78a8ef0de2295454171e706";
        let key = Ed25519VerificationKey::try_from(key).unwrap();
        let datum = with_message(&[shown()], |message| datum_json(&message.bytes(), signature));
        assert_eq!(datum_bytes(&datum), cbor(&datum).len());
        assert_eq!(configurations_of_datum(&cbor(&datum), &key), Some(vec![shown()]));
        let mut other = shown();
        other.protocol_parameters.k = 1945;
        let datum = with_message(&[other], |message| datum_json(&message.bytes(), signature));
        assert_eq!(configurations_of_datum(&cbor(&datum), &key), None);
    }

    #[test]
    fn whatever_the_bytes_decoding_ends() {
        let bytes = hex::decode(SHOWN).unwrap();
        for at in 0..bytes.len() {
            assert_eq!(decode(Epoch(1), &bytes[..at]), None);
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let _any = decode(Epoch(1), &changed);
            }
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        let change = |change: fn(&mut Configuration)| {
            let mut one = shown();
            change(&mut one);
            check(&[one], None)
        };
        assert_eq!(check(&[shown()], None), Ok(()));
        assert_eq!(check(&[], None), Err(ConfigurationError::Count));
        assert_eq!(check(&[shown(), shown()], None), Err(ConfigurationError::Order(Epoch(1386))));
        for bad in [
            change(|one| one.protocol_parameters.k = 0),
            change(|one| one.protocol_parameters.m = 1),
            change(|one| one.protocol_parameters.phi_f = 0.0),
            change(|one| one.protocol_parameters.phi_f = f64::NAN),
        ] {
            assert!(matches!(bad, Err(ConfigurationError::Parameters(Epoch(1386), _))), "{bad:?}");
        }
        for bad in [
            change(|one| one.cardano_transaction_signing_config = None),
            change(|one| one.cardano_blocks_transactions_signing_config.as_mut().unwrap().step = BlockNumber(0)),
            change(|one| assert!(one.enabled_signed_entity_types.remove(&Entity::CardanoBlocksTransactions))),
        ] {
            assert!(matches!(bad, Err(ConfigurationError::Inconsistent(Epoch(1386), _))), "{bad:?}");
        }
    }

    #[test]
    fn what_is_in_force_up_to_two_epochs_from_now_is_fixed() {
        let at = |epoch, k| {
            let mut one = shown();
            (one.epoch, one.protocol_parameters.k) = (Epoch(epoch), k);
            one
        };
        let chain = [at(10, 5)];
        let now = Epoch(20);
        for (edited, expected) in [
            (vec![at(10, 5)], Ok(())),
            (vec![at(10, 5), at(23, 6)], Ok(())),
            (vec![at(10, 5), at(22, 6)], Err(ConfigurationError::Fixed(Epoch(22)))),
            (vec![at(10, 6)], Err(ConfigurationError::Fixed(Epoch(18)))),
            // Forgetting what is long past changes nothing.
            (vec![at(18, 5), at(23, 6)], Ok(())),
            (vec![at(19, 5)], Err(ConfigurationError::Fixed(Epoch(18)))),
        ] {
            assert_eq!(check(&edited, Some((now, &chain))), expected, "{edited:?}");
        }
    }
}
