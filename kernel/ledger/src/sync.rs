//! Locks and threads of the ledger. With the feature `shuttle`, a scheduler that tries orders of threads stands in for them.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};
pub(crate) use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread,
};
