//! Which events have failed and are to be tried again, and what is said of that.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use upcall_event::EventId;

/// How many events are known one by one: about half a megabyte. Of more it is said that there are so many at least.
const EVENTS_MAX: usize = 10_000;
/// The least time between two lines in the log about events that have failed for the first time.
const LINE_INTERVAL: Duration = Duration::from_secs(60);
/// How long after its time an event is still waited for. Then another process has it, or somebody has dropped it.
const OVERDUE_MAX: Duration = Duration::from_secs(10 * 60);

/// The events that wait for their next attempt.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    /// When each is due.
    due: HashMap<EventId, Instant>,
    reason: String,
    last_line: Option<Instant>,
    /// How many have failed for the first time since the last line.
    untold: u64,
}

/// What waits for its next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrying {
    /// How many events. Of very many, a part only.
    pub events: usize,
    /// Why the last of them failed.
    pub reason: String,
}

impl Failing {
    /// Takes note that an event has failed, and is tried again after a while. Says whether that is worth a line, and how
    /// many others have failed for the first time since the last one.
    pub(crate) fn failed(&mut self, event: EventId, after: Duration, reason: &str, now: Instant) -> Option<u64> {
        if self.due.len() >= EVENTS_MAX {
            self.forget_overdue(now);
        }
        let is_known = self.due.contains_key(&event);
        if is_known || self.due.len() < EVENTS_MAX {
            self.due.insert(event, now + after);
        }
        self.untold += u64::from(!is_known);
        reason.clone_into(&mut self.reason);
        let is_silent = self.last_line.is_some_and(|line| now.duration_since(line) < LINE_INTERVAL);
        if self.untold == 0 || is_silent {
            return None;
        }
        self.last_line = Some(now);
        Some(std::mem::take(&mut self.untold).saturating_sub(u64::from(!is_known)))
    }

    /// Takes note that an event waits no longer: it is done, or given up.
    pub(crate) fn ended(&mut self, event: &EventId) {
        // Most consumers have none, and look nothing up.
        if !self.due.is_empty() {
            self.due.remove(event);
        }
    }

    /// What waits, if anything does.
    pub(crate) fn retrying(&mut self, now: Instant) -> Option<Retrying> {
        self.forget_overdue(now);
        (!self.due.is_empty()).then(|| Retrying { events: self.due.len(), reason: self.reason.clone() })
    }

    fn forget_overdue(&mut self, now: Instant) {
        self.due.retain(|_, due| now < *due + OVERDUE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: usize) -> EventId {
        EventId::from_request("b", "o", &number.to_string())
    }

    #[test]
    fn the_first_failure_is_told_at_once_and_the_others_once_a_minute() {
        let (mut failing, now) = (Failing::default(), Instant::now());
        assert_eq!(failing.failed(id(0), SECOND, "no", now), Some(0));
        for number in 1..50 {
            assert_eq!(failing.failed(id(number), SECOND, "no", now + SECOND), None);
        }
        let later = now + LINE_INTERVAL;
        assert_eq!(failing.failed(id(50), SECOND, "no", later), Some(49), "beside this one");
        assert_eq!(failing.failed(id(50), SECOND, "no", later + LINE_INTERVAL), None, "it is known already");
    }

    #[test]
    fn those_that_failed_meanwhile_are_told_with_the_next_attempt() {
        let (mut failing, now) = (Failing::default(), Instant::now());
        failing.failed(id(0), SECOND, "no", now);
        failing.failed(id(1), SECOND, "no", now);
        assert_eq!(failing.failed(id(0), SECOND, "no", now + LINE_INTERVAL), Some(1));
    }

    #[test]
    fn what_waits_is_counted_until_it_is_done_or_overdue() {
        let (mut failing, now) = (Failing::default(), Instant::now());
        assert_eq!(failing.retrying(now), None);
        failing.failed(id(0), SECOND, "first", now);
        failing.failed(id(1), 2 * SECOND, "second", now);
        failing.failed(id(1), 3 * SECOND, "third", now);
        assert_eq!(failing.retrying(now), Some(Retrying { events: 2, reason: "third".to_owned() }));
        failing.ended(&id(0));
        assert_eq!(failing.retrying(now).map(|retrying| retrying.events), Some(1));
        assert_eq!(failing.retrying(now + OVERDUE_MAX + 3 * SECOND), None);
    }

    #[test]
    fn no_more_events_are_remembered_than_there_is_room_for() {
        let (mut failing, now) = (Failing::default(), Instant::now());
        for number in 0..EVENTS_MAX + 5 {
            failing.failed(id(number), SECOND, "no", now);
        }
        assert_eq!(failing.retrying(now).map(|retrying| retrying.events), Some(EVENTS_MAX));
    }
}
