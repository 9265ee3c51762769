//! Validators, their power, and whose turn it is to propose.
//!
//! Follows the *proposer priority* rotation of Tendermint (`types/validator_set.go`): each turn every validator gains its power,
//! the highest priority proposes (the lower address wins a tie) and pays the total power. The proposer of height *h* and round *r*
//! is the one after *h + r* turns. Thresholds are exact: *more than* two thirds, *more than* one third.

use sha2::{Digest as _, Sha256};

/// Most validators of one network.
pub const VALIDATORS_MAX: usize = 128;
/// Largest total power, Tendermint's bound: an eighth of `i64::MAX`.
pub const POWER_MAX: u64 = i64::MAX as u64 / 8;
/// Priorities are kept within this many times the total power.
const PRIORITY_WINDOW: i128 = 2;

/// A validator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// Ed25519 public key.
    pub key: [u8; 32],
    /// Voting power, at least 1.
    pub power: u64,
}

impl Validator {
    /// First 20 bytes of the SHA-256 of the key.
    pub fn address(&self) -> [u8; 20] {
        let mut address = [0; 20];
        address.iter_mut().zip(Sha256::digest(self.key)).for_each(|(to, from)| *to = from);
        address
    }
}

/// A validator set that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorsError {
    /// None, or more than [`VALIDATORS_MAX`].
    #[error("a network has 1 to {VALIDATORS_MAX} validators, not {0}")]
    Count(usize),
    /// A validator without power.
    #[error("validator {0} has no power")]
    NoPower(usize),
    /// The total is above [`POWER_MAX`].
    #[error("the total power is above {POWER_MAX}")]
    TooMuchPower,
    /// A key twice.
    #[error("validator {0} has the key of another")]
    SameKey(usize),
}

#[derive(Debug, Clone)]
struct Member {
    validator: Validator,
    address: [u8; 20],
    priority: i128,
}

/// A validator set at some turn of the rotation. Indices are those of the list it was made from.
#[derive(Debug, Clone)]
pub struct ValidatorSet {
    members: Vec<Member>,
    total: u128,
}

impl ValidatorSet {
    /// The set before the first turn: all priorities are zero.
    pub fn new(validators: Vec<Validator>) -> Result<Self, ValidatorsError> {
        if validators.is_empty() || validators.len() > VALIDATORS_MAX {
            return Err(ValidatorsError::Count(validators.len()));
        }
        if let Some(index) = validators.iter().position(|v| v.power == 0) {
            return Err(ValidatorsError::NoPower(index));
        }
        let total: u128 = validators.iter().map(|v| u128::from(v.power)).sum();
        if total > u128::from(POWER_MAX) {
            return Err(ValidatorsError::TooMuchPower);
        }
        let mut members: Vec<Member> = Vec::with_capacity(validators.len());
        for (index, validator) in validators.into_iter().enumerate() {
            if members.iter().any(|m| m.validator.key == validator.key) {
                return Err(ValidatorsError::SameKey(index));
            }
            members.push(Member { address: validator.address(), validator, priority: 0 });
        }
        Ok(Self { members, total })
    }

    /// Number of validators.
    pub fn count(&self) -> u32 {
        self.members.len() as u32
    }

    /// The validator with this index.
    pub fn get(&self, index: u32) -> Option<&Validator> {
        self.members.get(index as usize).map(|m| &m.validator)
    }

    /// Address of the validator with this index.
    pub fn address(&self, index: u32) -> Option<[u8; 20]> {
        self.members.get(index as usize).map(|m| m.address)
    }

    /// Power of the validator with this index; 0 for a stranger.
    pub fn power(&self, index: u32) -> u64 {
        self.get(index).map_or(0, |v| v.power)
    }

    /// Power of all.
    pub const fn total(&self) -> u128 {
        self.total
    }

    /// Whether `power` is more than two thirds of the total: a quorum.
    pub const fn is_quorum(&self, power: u128) -> bool {
        power.saturating_mul(3) > self.total.saturating_mul(2)
    }

    /// Whether `power` is more than one third of the total: at least one of them is honest.
    pub const fn has_honest(&self, power: u128) -> bool {
        power.saturating_mul(3) > self.total
    }

    /// Takes `turns` turns and gives the index of the last one's proposer.
    pub fn rotate(&mut self, turns: u32) -> u32 {
        self.rescale();
        self.centre();
        let mut proposer = 0;
        for _ in 0..turns {
            proposer = self.turn();
        }
        proposer
    }

    /// The proposer `turns` turns from here, which is the last one's if `turns` is 0 and a turn was taken.
    pub fn proposer_after(&self, turns: u32) -> u32 {
        self.clone().rotate(turns)
    }

    fn turn(&mut self) -> u32 {
        for member in &mut self.members {
            member.priority = member.priority.saturating_add(i128::from(member.validator.power));
        }
        let total = self.total.cast_signed();
        let first = self.members.iter_mut().enumerate().reduce(|best, other| {
            let wins = other.1.priority > best.1.priority
                || (other.1.priority == best.1.priority && other.1.address < best.1.address);
            if wins { other } else { best }
        });
        first.map_or(0, |(index, member)| {
            member.priority = member.priority.saturating_sub(total);
            index as u32
        })
    }

    fn rescale(&mut self) {
        let (Some(max), Some(min)) =
            (self.members.iter().map(|m| m.priority).max(), self.members.iter().map(|m| m.priority).min())
        else {
            return;
        };
        let window = self.total.cast_signed().saturating_mul(PRIORITY_WINDOW);
        let spread = max.saturating_sub(min);
        if window > 0 && spread > window {
            let ratio = spread.saturating_add(window).saturating_sub(1) / window;
            self.members.iter_mut().for_each(|m| m.priority /= ratio);
        }
    }

    fn centre(&mut self) {
        let count = self.members.len() as i128;
        let sum: i128 = self.members.iter().map(|m| m.priority).sum();
        // Floor division, as Go's big.Int.Div does it.
        let average = sum.checked_div_euclid(count).unwrap_or(0);
        self.members.iter_mut().for_each(|m| m.priority = m.priority.saturating_sub(average));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set whose index order is its address order, so that ties go to the lower index.
    fn ordered(powers: &[u64]) -> ValidatorSet {
        let mut keys: Vec<[u8; 32]> = (0..powers.len() as u8).map(|n| [n; 32]).collect();
        keys.sort_by_key(|key| Validator { key: *key, power: 1 }.address());
        let list = keys.into_iter().zip(powers).map(|(key, power)| Validator { key, power: *power }).collect();
        ValidatorSet::new(list).unwrap()
    }

    #[test]
    fn proposers_come_in_the_known_order() {
        let table: &[(&[u64], &[u32])] = &[
            (&[1, 1, 1, 1], &[0, 1, 2, 3, 0, 1, 2, 3, 0]),
            (&[10, 10, 10], &[0, 1, 2, 0, 1, 2]),
            (&[1, 3], &[1, 0, 1, 1, 1, 0, 1, 1]),
            (&[1, 2, 3], &[2, 1, 0, 2, 1, 2, 2, 1, 0, 2, 1, 2]),
            (&[5], &[0, 0, 0]),
        ];
        for (powers, expected) in table {
            let mut set = ordered(powers);
            let seen: Vec<u32> = expected.iter().map(|_| set.rotate(1)).collect();
            assert_eq!(&seen, expected, "powers {powers:?}");
            let fresh = ordered(powers);
            for (turns, expected) in expected.iter().enumerate() {
                assert_eq!(fresh.proposer_after(turns as u32 + 1), *expected, "powers {powers:?}, turn {turns}");
            }
        }
    }

    #[test]
    fn turns_are_in_proportion_to_power() {
        let powers = [1, 7, 20, 100];
        let mut set = ordered(&powers);
        let mut turns = [0_u64; 4];
        for _ in 0..1280 {
            turns[set.rotate(1) as usize] += 1;
        }
        assert_eq!(turns, [10, 70, 200, 1000]);
    }

    #[test]
    fn exactly_two_thirds_is_no_quorum() {
        let table: &[(&[u64], u128, bool)] = &[
            (&[1, 1, 1], 2, false),
            (&[1, 1, 1], 3, true),
            (&[1, 1, 1, 1], 2, false),
            (&[1, 1, 1, 1], 3, true),
            (&[1; 6], 4, false),
            (&[1; 6], 5, true),
            (&[1, 2, 3], 4, false),
            (&[1, 2, 3], 5, true),
            (&[1], 1, true),
            (&[POWER_MAX / 3 * 2, POWER_MAX / 3], POWER_MAX as u128 / 3 * 2, false),
            (&[POWER_MAX / 3 * 2, POWER_MAX / 3], POWER_MAX as u128 / 3 * 2 + 1, true),
        ];
        for (powers, power, quorum) in table {
            assert_eq!(ordered(powers).is_quorum(*power), *quorum, "{power} of {powers:?}");
        }
    }

    #[test]
    fn exactly_one_third_may_be_all_dishonest() {
        for (powers, power, honest) in
            [(vec![1; 3], 1, false), (vec![1; 3], 2, true), (vec![1; 4], 1, false), (vec![1; 4], 2, true)]
        {
            assert_eq!(ordered(&powers).has_honest(power), honest, "{power} of {powers:?}");
        }
    }

    #[test]
    fn impossible_sets_are_refused() {
        let one = |n: u8, power| Validator { key: [n; 32], power };
        assert_eq!(ValidatorSet::new(vec![]).unwrap_err(), ValidatorsError::Count(0));
        assert_eq!(ValidatorSet::new(vec![one(1, 0)]).unwrap_err(), ValidatorsError::NoPower(0));
        assert_eq!(ValidatorSet::new(vec![one(1, 1), one(1, 2)]).unwrap_err(), ValidatorsError::SameKey(1));
        assert_eq!(ValidatorSet::new(vec![one(1, POWER_MAX), one(2, 1)]).unwrap_err(), ValidatorsError::TooMuchPower);
        assert_eq!(
            ValidatorSet::new(vec![one(1, u64::MAX), one(2, u64::MAX)]).unwrap_err(),
            ValidatorsError::TooMuchPower
        );
    }
}
