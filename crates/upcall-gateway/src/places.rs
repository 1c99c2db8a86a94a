//! How many connections there are at a time, and what becomes of one more.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// How many connections there are at a time, and what becomes of one more.
pub(crate) enum Places {
    /// It is turned away at once.
    Refusing(Arc<Semaphore>),
    /// The oldest one ends for it.
    Renewing(Renewing),
}

/// Places of which the oldest is given away. Whoever asks for a page and takes it is done long before: so clients that
/// send nothing, or read nothing, can't keep a probe out, however many they are.
pub(crate) struct Renewing {
    places: usize,
    taken: Mutex<VecDeque<AbortHandle>>,
}

impl Renewing {
    pub(crate) fn new(places: usize) -> Self {
        Self { places, taken: Mutex::default() }
    }

    /// Gives a connection a place.
    pub(crate) fn take(&self, connection: AbortHandle) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|connection| !connection.is_finished());
        if taken.len() >= self.places
            && let Some(oldest) = taken.pop_front()
        {
            oldest.abort();
        }
        taken.push_back(connection);
    }
}
