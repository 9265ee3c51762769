//! The dialects of a state file, in and out.

use super::statefile::{
    BlockId, Dialect, FIELD_MAX, HEIGHT_MAX, ROUND_MAX, STATE_FILE_MAX, StateFile, StateFileError, StateWarning,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semel_guard::Step;
use serde::Deserialize;
use serde_json::Value;

/// The keys that any dialect has. A key that comes twice is an error, one that is not here is ignored.
#[derive(Deserialize)]
struct Raw {
    height: Option<Value>,
    round: Option<Value>,
    step: Option<Value>,
    /// Some(Null) where the key is there and null.
    #[serde(default, deserialize_with = "present")]
    block_id: Option<Value>,
    #[serde(alias = "signbytes")]
    sign_bytes: Option<Value>,
    signature: Option<Value>,
    chain_id: Option<Value>,
    pub_key: Option<Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn wrong(field: &'static str, what: impl Into<String>) -> StateFileError {
    StateFileError::Field { field, what: what.into() }
}

/// Reads any dialect.
pub(super) fn parse(bytes: &[u8]) -> Result<StateFile, StateFileError> {
    if bytes.len() > STATE_FILE_MAX {
        return Err(StateFileError::TooLarge(bytes.len()));
    }
    let end = bytes.iter().rposition(|byte| !byte.is_ascii_whitespace() && *byte != 0).map_or(0, |last| last + 1);
    let object = bytes.get(..end).filter(|text| !text.is_empty()).ok_or(StateFileError::Empty)?;
    if object.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(StateFileError::NotJson("it does not start with {".into()));
    }
    let raw: Raw = serde_json::from_slice(object).map_err(|error| match error.is_eof() {
        true => StateFileError::Truncated,
        false => StateFileError::NotJson(error.to_string()),
    })?;
    let height = number("height", raw.height.as_ref())?;
    let round = number("round", raw.round.as_ref())?;
    let step = number("step", raw.step.as_ref())?;
    if height > HEIGHT_MAX {
        return Err(wrong("height", "is above 2⁶³ − 1"));
    }
    let round = u32::try_from(round).ok().filter(|r| *r <= ROUND_MAX).ok_or(StateFileError::Round(round))?;
    let sign_bytes = decoded("sign_bytes", raw.sign_bytes.as_ref(), |text| hex::decode(text).ok())?;
    let signature = decoded("signature", raw.signature.as_ref(), |text| BASE64.decode(text).ok())?;
    let mut warnings = Vec::new();
    let (dialect, step) = if raw.block_id.is_some() {
        (Dialect::Tmkms, tmkms_step(step, &mut warnings))
    } else if matches!(raw.round, Some(Value::Number(_))) {
        (Dialect::FilePv, comet_step(step, &mut warnings))
    } else if raw.sign_bytes.is_some() || raw.signature.is_some() {
        (Dialect::Horcrux, comet_step(step, &mut warnings))
    } else {
        // tmkms without the block, or horcrux without the signature: the step has two readings.
        warnings.push(StateWarning::UnclearStep);
        (Dialect::Tmkms, Some(Step::Precommit))
    };
    // What is odd about a step does not matter where nothing was signed.
    if height == 0 {
        warnings.clear();
    }
    Ok(StateFile {
        height,
        round,
        step: step.filter(|_| height > 0),
        block_id: block_id(raw.block_id.as_ref())?,
        sign_bytes,
        signature,
        chain_id: string("chain_id", raw.chain_id.as_ref())?.map(str::to_owned),
        pub_key: pub_key(raw.pub_key.as_ref())?,
        dialect,
        warnings,
    })
}

/// Steps since tmkms 0.7 are 0, 1, 2; before, 3 was a proposal and 6 any vote.
fn tmkms_step(step: u64, warnings: &mut Vec<StateWarning>) -> Option<Step> {
    Some(match step {
        0 => Step::Propose,
        1 => Step::Prevote,
        2 => Step::Precommit,
        3 => {
            warnings.push(StateWarning::OldTmkms);
            Step::Propose
        }
        6 => {
            warnings.extend([StateWarning::OldTmkms, StateWarning::AnyVote]);
            Step::Precommit
        }
        _ => {
            warnings.push(StateWarning::UnclearStep);
            Step::Precommit
        }
    })
}

fn comet_step(step: u64, warnings: &mut Vec<StateWarning>) -> Option<Step> {
    let known = Step::from_code(step);
    if known.is_none() {
        warnings.push(StateWarning::UnclearStep);
    }
    known
}

/// A whole number, or a string of digits.
fn number(field: &'static str, value: Option<&Value>) -> Result<u64, StateFileError> {
    let text = match value {
        None | Some(Value::Null) => return Err(wrong(field, "is missing")),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(_) => return Err(wrong(field, "is no number")),
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.strip_prefix('-') {
        Some(rest) if is_number(rest) && rest.bytes().any(|digit| digit != b'0') => {
            Err(StateFileError::Negative(field))
        }
        _ if is_number(&text) => text.parse().map_err(|_| wrong(field, "has too many digits")),
        _ => Err(wrong(field, "is no whole number")),
    }
}

fn string<'a>(field: &'static str, value: Option<&'a Value>) -> Result<Option<&'a str>, StateFileError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() > FIELD_MAX => Err(wrong(field, "is too long")),
        Some(Value::String(text)) => Ok((!text.is_empty()).then_some(text.as_str())),
        Some(_) => Err(wrong(field, "is no string")),
    }
}

fn decoded(
    field: &'static str,
    value: Option<&Value>,
    decode: impl Fn(&str) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, StateFileError> {
    string(field, value)?.map(|text| decode(text).ok_or_else(|| wrong(field, "does not decode"))).transpose()
}

/// Ours is a string of hex; an object `{type, value}` with base64, as in key files, is read too.
fn pub_key(value: Option<&Value>) -> Result<Option<String>, StateFileError> {
    if let Some(Value::Object(object)) = value {
        let key = decoded("pub_key", object.get("value"), |text| BASE64.decode(text).ok())?;
        return Ok(key.map(hex::encode_upper));
    }
    Ok(string("pub_key", value)?.map(str::to_owned))
}

/// Null, nothing, an empty object and empty hashes are all nil.
fn block_id(value: Option<&Value>) -> Result<Option<BlockId>, StateFileError> {
    let object = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(wrong("block_id", "is no object")),
    };
    let parts = match object.get("parts").or_else(|| object.get("part_set_header")) {
        None | Some(Value::Null) => None,
        Some(Value::Object(parts)) => Some(parts),
        Some(_) => return Err(wrong("block_id.parts", "is no object")),
    };
    let total = match parts.and_then(|parts| parts.get("total")) {
        None | Some(Value::Null) => 0,
        total => number("block_id.parts.total", total)?,
    };
    let block = BlockId {
        hash: hash("block_id.hash", object.get("hash"))?,
        parts_total: u32::try_from(total).map_err(|_| wrong("block_id.parts.total", "is above 2³² − 1"))?,
        parts_hash: hash("block_id.parts.hash", parts.and_then(|parts| parts.get("hash")))?,
    };
    Ok((block != BlockId::default()).then_some(block))
}

fn hash(field: &'static str, value: Option<&Value>) -> Result<Vec<u8>, StateFileError> {
    let hash = decoded(field, value, |text| hex::decode(text).ok())?.unwrap_or_default();
    match hash.len() {
        0 | 32 => Ok(hash),
        _ => Err(wrong(field, "has neither 0 nor 32 bytes")),
    }
}

/// Writes a dialect.
pub(super) fn render(state: &StateFile, dialect: Dialect, out: &mut Vec<u8>) {
    let step = state.step.filter(|_| state.height > 0);
    let mut write = Writer(out);
    write.plain("{\"height\":\"").decimal(state.height).plain("\",\"round\":");
    match dialect {
        Dialect::FilePv => write.decimal(state.round.into()),
        Dialect::Tmkms | Dialect::Horcrux => write.plain("\"").decimal(state.round.into()).plain("\""),
    };
    // A state that does not know its step is written as the last of its round.
    let code = match step {
        None if state.height == 0 => 0,
        step => step.unwrap_or(Step::Precommit) as u64,
    };
    let code = if dialect == Dialect::Tmkms { code.saturating_sub(1) } else { code };
    write.plain(",\"step\":").decimal(code);
    if dialect == Dialect::Tmkms {
        write.plain(",\"block_id\":{\"hash\":\"");
        let (hash, total, parts) = match &state.block_id {
            Some(BlockId { hash, parts_total, parts_hash }) => (hash.as_slice(), *parts_total, parts_hash.as_slice()),
            None => (&[][..], 0, &[][..]),
        };
        write.hex(hash).plain("\",\"parts\":{\"total\":").decimal(total.into()).plain(",\"hash\":\"").hex(parts);
        write.plain("\"}}");
        for (key, value) in [(",\"chain_id\":", &state.chain_id), (",\"pub_key\":", &state.pub_key)] {
            if let Some(value) = value {
                write.plain(key).quoted(value);
            }
        }
    }
    if dialect == Dialect::Horcrux {
        write.plain(",\"nonce_public\":null");
    }
    if let Some(signature) = &state.signature {
        write.plain(",\"signature\":\"").base64(signature).plain("\"");
    } else if dialect == Dialect::Horcrux {
        write.plain(",\"signature\":null");
    }
    if let Some(bytes) = &state.sign_bytes {
        let key = if dialect == Dialect::Tmkms { ",\"sign_bytes\":\"" } else { ",\"signbytes\":\"" };
        write.plain(key).hex(bytes).plain("\"");
    }
    write.plain("}");
}

/// Writes JSON into a buffer that is used again and again.
struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn plain(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn decimal(&mut self, mut number: u64) -> &mut Self {
        let start = self.0.len();
        loop {
            self.0.push(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.get_mut(start..).unwrap_or_default().reverse();
        self
    }

    fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
        self.0.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
        self
    }

    fn base64(&mut self, bytes: &[u8]) -> &mut Self {
        let start = self.0.len();
        self.0.resize(start + bytes.len().div_ceil(3) * 4, 0);
        let written = self.0.get_mut(start..).and_then(|room| BASE64.encode_slice(bytes, room).ok());
        self.0.truncate(start + written.unwrap_or_default());
        self
    }

    fn quoted(&mut self, text: &str) -> &mut Self {
        self.0.push(b'"');
        for character in text.chars() {
            match character {
                '"' | '\\' => self.0.extend([b'\\', character as u8]),
                c if c.is_control() => self.0.extend(format!("\\u{:04x}", u32::from(c)).bytes()),
                c => self.0.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        self.0.push(b'"');
        self
    }
}
