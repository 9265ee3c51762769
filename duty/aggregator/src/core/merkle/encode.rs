//! Proofs as they travel (spec §4.1): v1 is JSON in hexadecimal, v2 is bincode 2 "standard" in hexadecimal.
//!
//! Both are what the serde of mithril-merkle-tree 0.1.5 writes for a proof of a map of block ranges.

use super::map::RANGE_LENGTH;
use super::proof::Proof;
use std::sync::LazyLock;

/// A proof over ranges: that leaves belong to ranges, and the ranges to the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapProof<'a> {
    /// Of the ranges' leaves in the map.
    pub master: Proof<'a>,
    /// Of leaves in each range, ranges by number in ascending order.
    pub ranges: Vec<(u64, Proof<'a>)>,
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Two hexadecimal digits of a byte.
fn push_hex(out: &mut Vec<u8>, byte: u8) {
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
}

/// The text, in hexadecimal.
fn push_text(out: &mut Vec<u8>, text: &str) {
    text.bytes().for_each(|byte| push_hex(out, byte));
}

impl MapProof<'_> {
    fn nodes(&self) -> usize {
        let count = |proof: &Proof<'_>| proof.leaves.len() + proof.items.len() + 2;
        count(&self.master) + self.ranges.iter().map(|(_, proof)| count(proof)).sum::<usize>()
    }

    /// As JSON in hexadecimal (v1).
    #[must_use]
    pub fn to_json_hex(&self) -> String {
        // A node of 32 bytes is about 125 characters of JSON.
        let mut out = Vec::with_capacity(self.nodes() * 320);
        push_text(&mut out, "{\"master_proof\":");
        json_proof(&mut out, &self.master);
        push_text(&mut out, ",\"sub_proofs\":[");
        for (index, (range, proof)) in self.ranges.iter().enumerate() {
            let start = range.saturating_mul(RANGE_LENGTH);
            let end = start.saturating_add(RANGE_LENGTH);
            let comma = if index == 0 { "" } else { "," };
            push_text(&mut out, &format!("{comma}[{{\"inner_range\":{{\"start\":{start},\"end\":{end}}}}},"));
            push_text(&mut out, "{\"master_proof\":");
            json_proof(&mut out, proof);
            push_text(&mut out, ",\"sub_proofs\":[]}]");
        }
        push_text(&mut out, "]}");
        ascii(out)
    }

    /// As bincode in hexadecimal (v2).
    #[must_use]
    pub fn to_bincode_hex(&self) -> String {
        let mut out = Vec::with_capacity(self.nodes() * 48);
        bin_proof(&mut out, &self.master);
        bin_number(&mut out, self.ranges.len() as u64);
        for (range, proof) in &self.ranges {
            let start = range.saturating_mul(RANGE_LENGTH);
            bin_number(&mut out, start);
            bin_number(&mut out, start.saturating_add(RANGE_LENGTH));
            bin_proof(&mut out, proof);
            bin_number(&mut out, 0);
        }
        let mut text = Vec::with_capacity(out.len().saturating_mul(2));
        out.into_iter().for_each(|byte| push_hex(&mut text, byte));
        ascii(text)
    }
}

/// What was written is hexadecimal digits.
fn ascii(out: Vec<u8>) -> String {
    String::from_utf8(out).unwrap_or_default()
}

fn json_proof(out: &mut Vec<u8>, proof: &Proof<'_>) {
    push_text(out, "{\"inner_root\":");
    json_node(out, &proof.root);
    push_text(out, ",\"inner_leaves\":[");
    for (index, (position, leaf)) in proof.leaves.iter().enumerate() {
        push_text(out, &format!("{}[{position},", if index == 0 { "" } else { "," }));
        json_node(out, leaf);
        push_text(out, "]");
    }
    push_text(out, &format!("],\"inner_proof_size\":{},\"inner_proof_items\":[", proof.size));
    for (index, item) in proof.items.iter().enumerate() {
        if index > 0 {
            push_text(out, ",");
        }
        json_node(out, item);
    }
    push_text(out, "]}");
}

/// Each byte in decimal with a comma behind it, in hexadecimal.
static NUMBERS: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..=u8::MAX).map(|byte| hex::encode(format!("{byte},"))).collect());

/// Digits of a comma.
const COMMA: usize = 2;

/// `{"hash":[1,2,3]}`; most of a proof's text is written here, so each byte is one copy from a table.
fn json_node(out: &mut Vec<u8>, node: &[u8]) {
    push_text(out, "{\"hash\":[");
    let numbers = NUMBERS.as_slice();
    for byte in node {
        out.extend_from_slice(numbers.get(usize::from(*byte)).map_or(&[], String::as_bytes));
    }
    if !node.is_empty() {
        out.truncate(out.len().saturating_sub(COMMA));
    }
    push_text(out, "]}");
}

fn bin_proof(out: &mut Vec<u8>, proof: &Proof<'_>) {
    bin_node(out, &proof.root);
    bin_number(out, proof.leaves.len() as u64);
    for (position, leaf) in &proof.leaves {
        bin_number(out, *position);
        bin_node(out, leaf);
    }
    bin_number(out, proof.size);
    bin_number(out, proof.items.len() as u64);
    for item in &proof.items {
        bin_node(out, item);
    }
}

fn bin_node(out: &mut Vec<u8>, node: &[u8]) {
    bin_number(out, node.len() as u64);
    out.extend_from_slice(node);
}

/// An integer as bincode 2 "standard" has it: one byte up to 250, else a mark and 2, 4 or 8 bytes, little-endian.
fn bin_number(out: &mut Vec<u8>, value: u64) {
    if let Ok(small) = u8::try_from(value)
        && small <= 250
    {
        out.push(small);
    } else if let Ok(value) = u16::try_from(value) {
        out.push(251);
        out.extend_from_slice(&value.to_le_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        out.push(252);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        out.push(253);
        out.extend_from_slice(&value.to_le_bytes());
    }
}
