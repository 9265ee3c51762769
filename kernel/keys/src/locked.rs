//! Memory of secrets that is never swapped out.
//!
//! Only the pages in which a secret lies as long as its owner lives are locked. Locking the whole process would count every stack and
//! buffer against `RLIMIT_MEMLOCK`, and once that is reached no thread starts any more. A page stays locked until the process ends,
//! because two secrets may share one and a page has no count of its locks; the allocator uses it again for the next key.
//! Where the system refuses, the secret is used all the same, and [`refused`] tells.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

/// What the system said when it refused last.
static REFUSED: Mutex<Option<String>> = Mutex::new(None);

/// Why memory of secrets is not locked, if any is not: the words of the system. Asking forgets it.
pub fn refused() -> Option<String> {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A secret in a place of its own. Wiping it on drop is the secret's affair.
pub(crate) struct Locked<T>(Box<T>);

impl<T> Locked<T> {
    pub(crate) fn new(secret: T) -> Self {
        let place = Box::new(secret);
        match region::lock(&raw const *place, size_of::<T>().max(1)) {
            // Its drop would unlock pages that others may share.
            Ok(guard) => std::mem::forget(guard),
            Err(error) => {
                *REFUSED.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }
        Self(place)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
