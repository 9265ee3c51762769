//! `priv_validator_state.json` in the dialects of tmkms, the node's own signer, and horcrux.
//!
//! | | tmkms | FilePV, cosmos/kms | horcrux |
//! |---|---|---|---|
//! | height | string | string | string |
//! | round | string | number (a string in v0.33) | string |
//! | step | 0 proposal, 1 prevote, 2 precommit; to v0.6: 3 proposal, 6 vote | 1, 2, 3 | 1, 2, 3 |
//! | block | `block_id` {hash, parts {total, hash}} | in `signbytes` | in `signbytes` |
//!
//! A `block_id` key makes it tmkms's; `signbytes` or `signature`, or a round that is a number, the node's or horcrux's. Where that
//! leaves doubt, the step is read as a precommit: the safe side. tmkms ignores keys it does not know and white space at the
//! end, so ours may say more.

use semel_guard::Step;
use serde_json::{Map, Value, json};

/// Longest state file, in bytes.
const LEN_MAX: usize = 64 * 1024;

/// Whose state file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// tmkms, and ours.
    #[default]
    Tmkms,
    /// The node's own signer, and cosmos/kms.
    FilePv,
    /// horcrux.
    Horcrux,
}

/// A block's name in a state file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockId {
    /// Hash of the header, 32 bytes.
    pub hash: Vec<u8>,
    /// Number of parts.
    pub parts_total: u32,
    /// Root over the parts, 32 bytes.
    pub parts_hash: Vec<u8>,
}

/// What was signed last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateFile {
    /// Height; 0: nothing was signed.
    pub height: u64,
    /// Round.
    pub round: u32,
    /// Step; None: nothing was signed.
    pub step: Option<Step>,
    /// Block; None for nil, or where it is not known.
    pub block_id: Option<BlockId>,
    /// The signed message, where it is known.
    pub sign_bytes: Option<Vec<u8>>,
    /// The signature, where it is known.
    pub signature: Option<Vec<u8>>,
    /// Chain, where the file says it.
    pub chain_id: Option<String>,
    /// Public key as hex, where the file says it.
    pub pub_key: Option<String>,
    /// Whose dialect it was read from.
    pub dialect: Dialect,
    /// What was read on the safe side, in words.
    pub warnings: Vec<String>,
}

/// A state file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateFileError {
    /// Nothing in it: a write that was cut short, or a wrong file.
    #[error("the state file is empty")]
    Empty,
    /// Too long to be one.
    #[error("{0} bytes are too long for a state file")]
    TooLong(usize),
    /// Not JSON.
    #[error("the state file is not JSON: {0}")]
    NotJson(String),
    /// A field is missing or cannot be what it says.
    #[error("the state file's {0} {1}")]
    Field(&'static str, String),
}

impl StateFileError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "STATE-0001",
            Self::TooLong(_) => "STATE-0002",
            Self::NotJson(_) => "STATE-0003",
            Self::Field(..) => "STATE-0004",
        }
    }
}

fn field(name: &'static str, what: impl Into<String>) -> StateFileError {
    StateFileError::Field(name, what.into())
}

/// A number that may stand in quotes.
fn number(map: &Map<String, Value>, name: &'static str) -> Result<Option<u64>, StateFileError> {
    let text = match map.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(other) => return Err(field(name, format!("is {other}, not a number"))),
    };
    if text.starts_with('-') {
        return Err(field(name, format!("is negative: {text}")));
    }
    text.parse().map(Some).map_err(|_| field(name, format!("is {text:?}, not a whole number")))
}

fn hex_bytes(value: Option<&Value>, name: &'static str) -> Result<Vec<u8>, StateFileError> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => hex::decode(text.trim()).map_err(|_| field(name, "is not hex")),
        Some(_) => Err(field(name, "is not a string")),
    }
}

fn text(map: &Map<String, Value>, name: &str) -> Option<String> {
    map.get(name).and_then(Value::as_str).map(str::to_owned)
}

impl StateFile {
    /// Reads a state file of any dialect.
    pub fn parse(bytes: &[u8]) -> Result<Self, StateFileError> {
        if bytes.len() > LEN_MAX {
            return Err(StateFileError::TooLong(bytes.len()));
        }
        if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return Err(StateFileError::Empty);
        }
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| StateFileError::NotJson(format!("line {} column {}", error.line(), error.column())))?;
        let Value::Object(map) = value else { return Err(StateFileError::NotJson("it is no object".into())) };
        let height = number(&map, "height")?.ok_or_else(|| field("height", "is missing"))?;
        let round = number(&map, "round")?.unwrap_or_default();
        let step = number(&map, "step")?.unwrap_or_default();
        let height = i64::try_from(height).map_err(|_| field("height", "is above 2^63 - 1"))?.cast_unsigned();
        let round = i32::try_from(round).map_err(|_| field("round", "is above 2^31 - 1"))?.cast_unsigned();
        let has_signed = map.contains_key("signbytes") || map.contains_key("signature");
        let dialect = if map.contains_key("block_id") {
            Dialect::Tmkms
        } else if has_signed && matches!(map.get("round"), Some(Value::String(_))) {
            Dialect::Horcrux
        } else {
            Dialect::FilePv
        };
        let sure = dialect == Dialect::Tmkms || has_signed || matches!(map.get("round"), Some(Value::Number(_)));
        let mut warnings = Vec::new();
        let step = match (dialect, step) {
            _ if height == 0 => None,
            (Dialect::Tmkms, 0) => Some(Step::Propose),
            (Dialect::Tmkms, 1) => Some(Step::Prevote),
            (Dialect::Tmkms, 2 | 6) => Some(Step::Precommit),
            (Dialect::Tmkms, 3) => {
                warnings.push("step 3 is a proposal of a tmkms before v0.7; read as a precommit".into());
                Some(Step::Precommit)
            }
            (Dialect::FilePv | Dialect::Horcrux, code @ 0..=3) if sure => Step::from_code(code),
            (_, 0..=3) => {
                warnings.push("it does not say whose step numbers it uses; read as a precommit".into());
                Some(Step::Precommit)
            }
            (_, other) => return Err(field("step", format!("is {other}"))),
        };
        let block_id = match map.get("block_id") {
            Some(Value::Object(block)) => read_block(block)?,
            None | Some(Value::Null) => None,
            Some(_) => return Err(field("block_id", "is no object")),
        };
        let sign_bytes = hex_bytes(map.get("signbytes").or_else(|| map.get("sign_bytes")), "signbytes")?;
        let signature = match map.get("signature") {
            Some(Value::String(text)) => {
                use base64::Engine as _;
                let decoded = base64::engine::general_purpose::STANDARD.decode(text);
                decoded.map_err(|_| field("signature", "is not base64"))?
            }
            _ => Vec::new(),
        };
        Ok(Self {
            height,
            round,
            step,
            block_id,
            sign_bytes: Some(sign_bytes).filter(|bytes| !bytes.is_empty()),
            signature: Some(signature).filter(|bytes| !bytes.is_empty()),
            chain_id: text(&map, "chain_id"),
            pub_key: text(&map, "pub_key"),
            dialect,
            warnings,
        })
    }

    /// The file in a dialect, without a newline. FilePV and horcrux files carry signature and sign bytes where they are
    /// known; without them those signers refuse a repeat at exactly this position, which is the safe side.
    pub fn render(&self, dialect: Dialect) -> String {
        let code = self.step.map_or(0, |step| step as u64);
        let sign_bytes = self.sign_bytes.as_ref().map(hex::encode_upper);
        let signature = self.signature.as_ref().map(|signature| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(signature)
        });
        let mut value = match dialect {
            Dialect::Tmkms => json!({
                "height": self.height.to_string(),
                "round": self.round.to_string(),
                "step": code.saturating_sub(1),
                "block_id": self.block_id.as_ref().map_or_else(|| json!({}), |block| json!({
                    "hash": hex::encode_upper(&block.hash),
                    "parts": { "total": block.parts_total, "hash": hex::encode_upper(&block.parts_hash) },
                })),
            }),
            Dialect::FilePv => json!({ "height": self.height.to_string(), "round": self.round, "step": code }),
            Dialect::Horcrux => {
                json!({ "height": self.height.to_string(), "round": self.round.to_string(), "step": code })
            }
        };
        if let Value::Object(map) = &mut value {
            let bytes_key = if dialect == Dialect::Tmkms { "sign_bytes" } else { "signbytes" };
            map.extend(signature.map(|text| ("signature".to_owned(), text.into())));
            map.extend(sign_bytes.map(|text| (bytes_key.to_owned(), text.into())));
            if dialect == Dialect::Tmkms {
                map.extend(self.chain_id.clone().map(|text| ("chain_id".to_owned(), text.into())));
                map.extend(self.pub_key.clone().map(|text| ("pub_key".to_owned(), text.into())));
            }
        }
        value.to_string()
    }
}

fn read_block(block: &Map<String, Value>) -> Result<Option<BlockId>, StateFileError> {
    let hash = hex_bytes(block.get("hash"), "block_id.hash")?;
    let parts = match block.get("parts").or_else(|| block.get("part_set_header")) {
        Some(Value::Object(parts)) => Some(parts),
        None | Some(Value::Null) => None,
        Some(_) => return Err(field("block_id.parts", "is no object")),
    };
    let total = parts.map(|parts| number(parts, "total")).transpose()?.flatten().unwrap_or_default();
    let parts_total = u32::try_from(total).map_err(|_| field("total", "is above 2^32 - 1"))?;
    let parts_hash = hex_bytes(parts.and_then(|parts| parts.get("hash")), "block_id.parts.hash")?;
    for (name, hash) in [("block_id.hash", &hash), ("block_id.parts.hash", &parts_hash)] {
        if !matches!(hash.len(), 0 | 32) {
            return Err(field(name, format!("has {} bytes, not 32", hash.len())));
        }
    }
    let empty = hash.is_empty() && parts_hash.is_empty() && parts_total == 0;
    Ok((!empty).then_some(BlockId { hash, parts_total, parts_hash }))
}
