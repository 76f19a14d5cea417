//! The one way to take a mutex. What these guard is changed in one step, or is a count or a queue of which at
//! worst one entry is not whole: a panic elsewhere is no reason to stop.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
