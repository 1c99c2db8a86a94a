//! What was sent lately.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use upcall_event::EventId;

/// How many ids are remembered: about a megabyte.
const IDS_MAX: usize = 10_000;

/// The ids of the events that were told lately. They are forgotten when the process ends.
#[derive(Debug, Default)]
pub(crate) struct Sent(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ids: HashSet<EventId>,
    /// The oldest first.
    order: VecDeque<EventId>,
}

impl Sent {
    pub(crate) fn has(&self, id: &EventId) -> bool {
        self.lock().ids.contains(id)
    }

    pub(crate) fn add(&self, id: EventId) {
        let mut state = self.lock();
        if !state.ids.insert(id) {
            return;
        }
        state.order.push_back(id);
        if state.order.len() > IDS_MAX
            && let Some(oldest) = state.order.pop_front()
        {
            state.ids.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered_and_no_more_than_there_is_room_for() {
        let sent = Sent::default();
        let id = |number: usize| EventId::from_request("b", "o", &number.to_string());
        (0..IDS_MAX + 5).for_each(|number| sent.add(id(number)));
        (0..3).for_each(|_| sent.add(id(IDS_MAX)));
        assert!(!sent.has(&id(4)) && sent.has(&id(5)) && sent.has(&id(IDS_MAX + 4)));
    }
}
