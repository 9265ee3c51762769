//! The lottery of a signer, as a comparison of two integers.
//!
//! A signer with share *w* of the stake wins an index when its value *ev* (512 bits) is below 2^512·(1 − (1 − φ)^w).
//! mithril-stm compares rational numbers for every index; here the bound is computed once per signer, from below and from above,
//! and a value outside the two is decided by it. Between them (two values of 2^512, or so) nothing is decided: whoever asks then
//! asks mithril-stm. So the two agree wherever an answer is given.
//!
//! mithril-stm sums e^x, x = −w·ln(1 − φ), and stops early with a remainder of three times the next term. That is the truth for
//! x up to 2.6; above `EXPONENT_MAX` nothing is decided here either. ln(1 − φ) is the `f64` that mithril-stm takes, exactly.
//! Units: fixed point with `FRACTION_BITS` bits behind the point.

use mithril_common::entities::Stake;
use num_bigint::BigUint;

/// Bits behind the point.
const FRACTION_BITS: u64 = 640;
/// Bits of a value.
const VALUE_BITS: u64 = 512;
/// Highest x that is decided.
const EXPONENT_MAX: u64 = 2;
/// Units by which the computed sum may be below the true one: 8 for each term (x ≤ 2: the error of a term is at most that of the
/// one before times 2/n, and 3), and no more than 300 terms until one is below a unit.
const SUM_ERROR: u32 = 8 * 300;

/// Bounds of a signer's winning values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lottery {
    // Below `wins` every value wins; from `loses` on none does. Words from the highest to the lowest.
    wins: [u64; 8],
    loses: [u64; 8],
}

impl Lottery {
    /// The bounds for a stake of a total. None: φ, the stakes or their ratio are such that mithril-stm has to be asked.
    pub fn new(phi: f64, stake: Stake, total: Stake) -> Option<Lottery> {
        if !(phi > 0.0 && phi < 1.0 - f64::EPSILON) || total == 0 || stake > total {
            return None;
        }
        let (mantissa, exponent) = parts((1.0 - phi).ln())?;
        // x from below, in units: stake · |ln(1 − φ)| / total.
        let shifted = (BigUint::from(stake) * mantissa) << FRACTION_BITS;
        let x = (shifted >> exponent) / total;
        let one = BigUint::from(1_u8) << FRACTION_BITS;
        if x > (&one * EXPONENT_MAX) {
            return None;
        }
        let mut sum = one.clone();
        let mut term = one.clone();
        for n in 1_u32.. {
            term = ((term * &x) >> FRACTION_BITS) / n;
            if term == BigUint::ZERO {
                break;
            }
            sum += &term;
        }
        let above = &sum + SUM_ERROR;
        // 1 − 1/e^x, in units of 2^−512.
        let wins = ((&sum - &one) << VALUE_BITS) / sum;
        let loses = ((&above - &one) << VALUE_BITS) / above + 1_u8;
        Some(Lottery { wins: words(&wins)?, loses: words(&loses)? })
    }

    /// Whether a value (little-endian) wins; none when it is too close to tell.
    pub fn is_won(&self, value: &[u8; 64]) -> Option<bool> {
        let mut value = chunks(value);
        value.reverse();
        if value < self.wins {
            Some(true)
        } else if value >= self.loses {
            Some(false)
        } else {
            None
        }
    }
}

/// A negative number as mantissa and exponent: −mantissa / 2^exponent.
fn parts(number: f64) -> Option<(u64, u64)> {
    let bits = number.to_bits();
    let biased = (bits >> 52) & 0x7ff;
    if !number.is_normal() || number >= 0.0 || biased >= 1075 {
        return None;
    }
    Some(((bits & ((1 << 52) - 1)) | (1 << 52), 1075 - biased))
}

fn words(number: &BigUint) -> Option<[u64; 8]> {
    let mut bytes = number.to_bytes_le();
    if bytes.len() > 64 {
        return None;
    }
    bytes.resize(64, 0);
    let mut words = chunks(&bytes.try_into().ok()?);
    words.reverse();
    Some(words)
}

/// Eight words, the lowest first.
fn chunks(bytes: &[u8; 64]) -> [u64; 8] {
    let mut words = [0; 8];
    for (word, eight) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*eight);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bound in floating point: what any reader of the paper would write.
    fn bound(phi: f64, share: f64) -> f64 {
        1.0 - (1.0 - phi).powf(share)
    }

    fn as_fraction(words: &[u64; 8]) -> f64 {
        words.iter().enumerate().map(|(at, word)| *word as f64 * 2_f64.powi(-64 * (at as i32 + 1))).sum()
    }

    proptest! {
        #[test]
        fn the_two_bounds_enclose_the_true_one_and_are_close(phi in 0.001..0.85_f64, stake in 1..=u64::MAX / 2, more in 0..=u64::MAX / 2) {
            let total = stake + more;
            let lottery = Lottery::new(phi, stake, total).unwrap();
            prop_assert!(lottery.wins <= lottery.loses);
            prop_assert_eq!(lottery.wins[..7].to_vec(), lottery.loses[..7].to_vec());
            prop_assert!(lottery.loses[7].wrapping_sub(lottery.wins[7]) <= 2);
            let (ours, rough) = (as_fraction(&lottery.wins), bound(phi, stake as f64 / total as f64));
            prop_assert!((ours - rough).abs() < 1e-12, "{} {}", ours, rough);
        }
    }

    #[test]
    fn values_at_the_bounds_are_decided_and_those_between_are_not() {
        let lottery = Lottery::new(0.2, 1, 3).unwrap();
        let value = |words: [u64; 8], less: u64| {
            let mut words = words;
            words[7] -= less;
            let mut bytes = [0; 64];
            for (eight, word) in bytes.chunks_exact_mut(8).zip(words.iter().rev()) {
                eight.copy_from_slice(&word.to_le_bytes());
            }
            bytes
        };
        assert_eq!(lottery.is_won(&value(lottery.wins, 1)), Some(true));
        assert_eq!(lottery.is_won(&value(lottery.wins, 0)), None);
        assert_eq!(lottery.is_won(&value(lottery.loses, 0)), Some(false));
        assert_eq!((lottery.is_won(&[0; 64]), lottery.is_won(&[255; 64])), (Some(true), Some(false)));
    }

    #[test]
    fn what_mithril_stm_must_decide_has_no_bounds() {
        for phi in [f64::NAN, -0.1, 0.0, 1.0, 1.5, f64::INFINITY] {
            assert_eq!(Lottery::new(phi, 1, 2), None, "{phi}");
        }
        assert_eq!(Lottery::new(0.2, 1, 0), None);
        assert_eq!(Lottery::new(0.2, 3, 2), None);
        assert_eq!(Lottery::new(0.95, 1, 1), None, "x is 3");
        assert!(Lottery::new(0.95, 1, 2).is_some());
    }
}
