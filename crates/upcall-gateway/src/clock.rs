//! The time of events.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// A clock that never goes back and never stands still, in microseconds: consumers tell a later upload from an earlier
/// one by it, also when somebody sets the machine's clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last_us: AtomicI64,
}

impl Clock {
    /// The time, or a microsecond after the last answer where that is later.
    pub(crate) fn now(&self) -> Timestamp {
        self.after(Timestamp::now())
    }

    fn after(&self, machine: Timestamp) -> Timestamp {
        let machine_us = machine.as_microsecond();
        let later = |last: i64| Some(machine_us.max(last + 1));
        // The closure always gives a value, so this can't fail.
        let last = self.last_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or_default();
        Timestamp::from_microsecond(machine_us.max(last + 1)).unwrap_or(machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_orders_events_all_the_same() {
        let clock = Clock::default();
        let noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let eleven: Timestamp = "2026-01-01T11:00:00Z".parse().unwrap();
        let times = [noon, noon, eleven, eleven, noon].map(|machine| clock.after(machine));
        assert_eq!(times[0], noon);
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
        assert_eq!(clock.after("2026-01-01T13:00:00Z".parse().unwrap()).to_string(), "2026-01-01T13:00:00Z");
    }
}
