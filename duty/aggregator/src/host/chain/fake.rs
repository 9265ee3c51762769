//! A chain that is what a test has set.
//!
//! Answers are given as they are set; an error that is set with [`Fake::fail_next`] comes first, once. A walk gives the steps
//! that were pushed, in order, and is at the tip when there are none left; all walks share them.

use super::{Blocks, ChainError, Observer, Place, Step, View, settled};
use mithril_common::crypto_helper::KesPeriod;
use mithril_common::entities::{BlockNumber, ChainPoint, Epoch, SlotNumber, StakeDistribution};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A chain that is what a test has set. Clones are the same chain.
#[derive(Debug, Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    view: View,
    stakes: StakeDistribution,
    datums: BTreeMap<String, Vec<Vec<u8>>>,
    steps: VecDeque<Step>,
    walks: Vec<Vec<Place>>,
    errors: VecDeque<ChainError>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// Conway, epoch 1, before the first block, nobody with stake.
    pub fn new() -> Self {
        let view = View {
            era: "Conway".to_owned(),
            epoch: Epoch(1),
            tip: ChainPoint::new(SlotNumber(0), BlockNumber(0), ""),
            kes_period: KesPeriod(0),
        };
        let state = State {
            view,
            stakes: StakeDistribution::new(),
            datums: BTreeMap::new(),
            steps: VecDeque::new(),
            walks: Vec::new(),
            errors: VecDeque::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the chain is from now on.
    pub fn set_view(&self, view: View) {
        self.state().view = view;
    }

    /// The epoch from now on.
    pub fn set_epoch(&self, epoch: Epoch) {
        self.state().view.epoch = epoch;
    }

    /// The tip from now on.
    pub fn set_tip(&self, tip: ChainPoint) {
        self.state().view.tip = tip;
    }

    /// The KES period from now on.
    pub fn set_kes_period(&self, period: KesPeriod) {
        self.state().view.kes_period = period;
    }

    /// The stakes from now on.
    pub fn set_stakes(&self, stakes: StakeDistribution) {
        self.state().stakes = stakes;
    }

    /// What lies at an address from now on.
    pub fn set_datums(&self, address: &str, datums: Vec<Vec<u8>>) {
        self.state().datums.insert(address.to_owned(), datums);
    }

    /// One more step for a walk.
    pub fn push_step(&self, step: Step) {
        self.state().steps.push_back(step);
    }

    /// The next answer, or step, is this error.
    pub fn fail_next(&self, error: ChainError) {
        self.state().errors.push_back(error);
    }

    /// The known places that each walk was begun with.
    pub fn walks(&self) -> Vec<Vec<Place>> {
        self.state().walks.clone()
    }

    /// The state, unless an error is due.
    fn answer(&self) -> Result<MutexGuard<'_, State>, ChainError> {
        let mut state = self.state();
        match state.errors.pop_front() {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }
}

impl Observer for Fake {
    fn view(&self) -> Result<View, ChainError> {
        Ok(self.answer()?.view.clone())
    }

    fn stakes(&self) -> Result<(View, StakeDistribution), ChainError> {
        let state = self.answer()?;
        settled(state.view.clone(), state.stakes.clone(), state.view.epoch)
    }

    fn datums(&self, address: &str) -> Result<Vec<Vec<u8>>, ChainError> {
        Ok(self.answer()?.datums.get(address).cloned().unwrap_or_default())
    }

    fn blocks(&self, known: &[Place]) -> Result<Box<dyn Blocks>, ChainError> {
        self.answer()?.walks.push(known.to_vec());
        Ok(Box::new(self.clone()))
    }
}

impl Blocks for Fake {
    fn step(&mut self) -> Result<Step, ChainError> {
        Ok(self.answer()?.steps.pop_front().unwrap_or(Step::AtTip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_told_and_an_error_is_told_once() {
        let fake = Fake::new();
        assert!(matches!(fake.stakes(), Err(ChainError::NoStake(Epoch(1)))));
        fake.set_epoch(Epoch(7));
        fake.set_stakes(StakeDistribution::from([("pool1".to_owned(), 5)]));
        fake.fail_next(ChainError::Unsupported("a test"));
        assert!(matches!(fake.stakes(), Err(ChainError::Unsupported("a test"))));
        let (view, stakes) = fake.stakes().unwrap();
        assert_eq!((view.epoch, stakes["pool1"]), (Epoch(7), 5));

        let place = Place { slot: 1, hash: [1; 32] };
        fake.push_step(Step::Backward(Some(place)));
        fake.push_step(Step::Forward(vec![1]));
        let mut walk = fake.blocks(&[place]).unwrap();
        assert_eq!(walk.step().unwrap(), Step::Backward(Some(place)));
        assert_eq!(walk.step().unwrap(), Step::Forward(vec![1]));
        assert_eq!(walk.step().unwrap(), Step::AtTip);
        assert_eq!(fake.walks(), [vec![place]]);
    }
}
