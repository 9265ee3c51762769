//! The JSON of an interchange file.
//!
//! Strict about what protects (numbers, keys, roots) and tolerant about the rest: keys of objects that are not known are
//! passed over. Lists stop growing at their limit while they are read.

use super::{
    ENTRIES_MAX, Eip3076Error, FILE_MAX, FORMAT_VERSION, Interchange, KEYS_MAX, Record, Root, SignedAttestation,
    SignedBlock,
};
use semel_guard::{Algorithm, PublicKey};
use serde::de::{DeserializeOwned, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// Longest word of the JSON parser that is passed on, in characters: it may quote the file.
const MESSAGE_MAX: usize = 200;

pub(super) fn parse(bytes: &[u8]) -> Result<Interchange, Eip3076Error> {
    if bytes.len() > FILE_MAX {
        return Err(Eip3076Error::TooLarge(bytes.len()));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Eip3076Error::Empty);
    }
    // Another version may have another form altogether, so that is looked at first.
    let head: Head = json(bytes)?;
    let version = match &head.metadata.interchange_format_version {
        serde_json::Value::String(version) => version.clone(),
        other => other.to_string(),
    };
    if version != FORMAT_VERSION {
        return Err(Eip3076Error::Version(version.chars().take(MESSAGE_MAX).collect()));
    }
    let body: Body = json(bytes)?;
    if body.data.is_cut {
        return Err(Eip3076Error::Keys);
    }
    let mut records = Vec::with_capacity(body.data.items.len());
    for WireRecord { pubkey: WireKey(key), signed_blocks, signed_attestations } in body.data.items {
        if signed_blocks.is_cut || signed_attestations.is_cut {
            return Err(Eip3076Error::Entries(key.to_string()));
        }
        let blocks = signed_blocks.items.into_iter().map(Into::into).collect();
        let attestations = signed_attestations.items.into_iter().map(Into::into).collect();
        records.push(Record { key, blocks, attestations });
    }
    Ok(Interchange { genesis_validators_root: head.metadata.genesis_validators_root, records })
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Eip3076Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Eof => Eip3076Error::Truncated { line, column },
            serde_json::error::Category::Data => {
                // The place is at the end of the message, which may be cut.
                let text = error.to_string();
                let what: String =
                    text.split(" at line ").next().unwrap_or_default().chars().take(MESSAGE_MAX).collect();
                Eip3076Error::Field(format!("{what}, line {line} column {column}"))
            }
            _ => Eip3076Error::NotJson { line, column },
        }
    })
}

pub(super) fn render(file: &Interchange) -> String {
    let records = file.records.iter().map(|record| WireRecord {
        pubkey: WireKey(record.key.clone()),
        signed_blocks: Bounded::of(record.blocks.iter().map(WireBlock::from).collect()),
        signed_attestations: Bounded::of(record.attestations.iter().map(WireAttestation::from).collect()),
    });
    let whole = Whole {
        metadata: Metadata {
            interchange_format_version: FORMAT_VERSION.into(),
            genesis_validators_root: file.genesis_validators_root,
        },
        data: Bounded::of(records.collect()),
    };
    // Strings and lists of strings: nothing here can fail to be written.
    let mut text = serde_json::to_string_pretty(&whole).unwrap_or_default();
    text.push('\n');
    text
}

#[derive(Deserialize)]
struct Head {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Body {
    data: Bounded<WireRecord, KEYS_MAX>,
}

#[derive(Serialize)]
struct Whole {
    metadata: Metadata,
    data: Bounded<WireRecord, KEYS_MAX>,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    interchange_format_version: serde_json::Value,
    genesis_validators_root: Root,
}

#[derive(Serialize, Deserialize)]
struct WireRecord {
    pubkey: WireKey,
    signed_blocks: Bounded<WireBlock, ENTRIES_MAX>,
    signed_attestations: Bounded<WireAttestation, ENTRIES_MAX>,
}

#[derive(Serialize, Deserialize)]
struct WireBlock {
    slot: Decimal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_root: Option<Root>,
}

#[derive(Serialize, Deserialize)]
struct WireAttestation {
    source_epoch: Decimal,
    target_epoch: Decimal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signing_root: Option<Root>,
}

impl From<WireBlock> for SignedBlock {
    fn from(WireBlock { slot: Decimal(slot), signing_root }: WireBlock) -> Self {
        Self { slot, signing_root }
    }
}

impl From<&SignedBlock> for WireBlock {
    fn from(block: &SignedBlock) -> Self {
        Self { slot: Decimal(block.slot), signing_root: block.signing_root }
    }
}

impl From<WireAttestation> for SignedAttestation {
    fn from(wire: WireAttestation) -> Self {
        Self { source: wire.source_epoch.0, target: wire.target_epoch.0, signing_root: wire.signing_root }
    }
}

impl From<&SignedAttestation> for WireAttestation {
    fn from(vote: &SignedAttestation) -> Self {
        let (source_epoch, target_epoch) = (Decimal(vote.source), Decimal(vote.target));
        Self { source_epoch, target_epoch, signing_root: vote.signing_root }
    }
}

/// A list of at most `MAX` items; what comes behind them is passed over.
struct Bounded<T, const MAX: usize> {
    items: Vec<T>,
    is_cut: bool,
}

impl<T, const MAX: usize> Bounded<T, MAX> {
    fn of(items: Vec<T>) -> Self {
        Self { items, is_cut: false }
    }
}

impl<T: Serialize, const MAX: usize> Serialize for Bounded<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Bounded<T, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX {
                    match list.next_element()? {
                        Some(item) => items.push(item),
                        None => return Ok(Bounded::of(items)),
                    }
                }
                let mut is_cut = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    is_cut = true;
                }
                Ok(Bounded { items, is_cut })
            }
        }
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// Reads a string into a value; `expected` says what it should have been.
fn from_text<'de, D, T>(deserializer: D, expected: &'static str, read: fn(&str) -> Option<T>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct Text<T>(&'static str, fn(&str) -> Option<T>);
    impl<T> Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::custom(format_args!("not {}", self.0)))
        }
    }
    deserializer.deserialize_str(Text(expected, read))
}

/// A whole number below 2⁶⁴ as a string of digits.
struct Decimal(u64);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?.map(Self);
        from_text(deserializer, "a number below 2⁶⁴ in quotes", digits)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a root: 0x and 64 hex digits", Self::parse)
    }
}

impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct WireKey(PublicKey);

impl<'de> Deserialize<'de> for WireKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = |text: &str| {
            let mut bytes = [0; Algorithm::Bls12381.key_len()];
            hex::decode_to_slice(text.strip_prefix("0x")?, &mut bytes).ok()?;
            PublicKey::new(Algorithm::Bls12381, &bytes).ok().map(Self)
        };
        from_text(deserializer, "a public key: 0x and 96 hex digits", key)
    }
}

impl Serialize for WireKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0x{}", hex::encode(self.0.as_bytes())))
    }
}
