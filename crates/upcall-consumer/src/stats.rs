//! What a consumer did and how it is, for whoever watches it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A handle to a consumer's numbers; cheap to clone, and good after the consumer has stopped.
#[derive(Debug, Clone, Default)]
pub struct Stats(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    delivered: AtomicU64,
    done: AtomicU64,
    skipped: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
    handed_back: AtomicU64,
    unsettled: AtomicU64,
    in_flight: AtomicU64,
    state: AtomicU8,
    last_error: Mutex<Option<String>>,
}

/// A consumer's numbers at one moment. All but `in_flight` only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Events handed to the sink, every attempt counted.
    pub delivered: u64,
    /// Events settled as done.
    pub done: u64,
    /// Events settled as done without the sink: the condition leaves them out.
    pub skipped: u64,
    /// Events settled as failed, to be tried again.
    pub retried: u64,
    /// Events settled as dead letters.
    pub dead: u64,
    /// Events given back to the bus uncounted: in an outage or at shutdown.
    pub handed_back: u64,
    /// Events whose settlement the bus did not take; it delivers them again.
    pub unsettled: u64,
    /// Events that the sink has in hand.
    pub in_flight: u64,
    /// How the consumer is.
    pub state: State,
    /// The last thing that went wrong, even if it is right again.
    pub last_error: Option<String>,
}

/// How a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum State {
    /// It has not reached its bus or its target yet.
    #[default]
    Starting,
    /// Events flow.
    Ready,
    /// The target is out of order.
    TargetDown,
    /// The bus can't be read.
    BusDown,
    /// It shuts down: what is under way finishes.
    Draining,
    /// It has ended.
    Stopped,
}

impl State {
    const ALL: [Self; 6] =
        [Self::Starting, Self::Ready, Self::TargetDown, Self::BusDown, Self::Draining, Self::Stopped];

    /// The state's name in logs and on the console.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::TargetDown => "target_down",
            Self::BusDown => "bus_down",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

impl Stats {
    /// All numbers as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let inner = &*self.0;
        Snapshot {
            delivered: read(&inner.delivered),
            done: read(&inner.done),
            skipped: read(&inner.skipped),
            retried: read(&inner.retried),
            dead: read(&inner.dead),
            handed_back: read(&inner.handed_back),
            unsettled: read(&inner.unsettled),
            in_flight: read(&inner.in_flight),
            state: self.state(),
            last_error: inner.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// How the consumer is.
    #[must_use]
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.0.state.load(Ordering::Relaxed))]
    }

    /// Whether events flow.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    pub(crate) fn enter(&self, state: State) {
        self.0.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, error: &str) {
        *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
    }

    pub(crate) fn count(&self, what: Count, events: u64) {
        let inner = &*self.0;
        let counter = match what {
            Count::Done => &inner.done,
            Count::Skipped => &inner.skipped,
            Count::Retried => &inner.retried,
            Count::Dead => &inner.dead,
            Count::HandedBack => &inner.handed_back,
            Count::Unsettled => &inner.unsettled,
        };
        counter.fetch_add(events, Ordering::Relaxed);
    }

    /// Counts events as delivered, and as in flight until the guard is dropped.
    pub(crate) fn deliver(&self, events: u64) -> InFlight {
        self.0.delivered.fetch_add(events, Ordering::Relaxed);
        self.0.in_flight.fetch_add(events, Ordering::Relaxed);
        InFlight { stats: self.clone(), events }
    }
}

/// What is counted of settled events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    Done,
    Skipped,
    Retried,
    Dead,
    HandedBack,
    Unsettled,
}

/// Events that the sink has in hand.
pub(crate) struct InFlight {
    stats: Stats,
    events: u64,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.stats.0.in_flight.fetch_sub(self.events, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back() {
        let stats = Stats::default();
        assert_eq!(stats.state(), State::Starting);
        for state in State::ALL {
            stats.enter(state);
            assert_eq!(stats.state(), state);
        }
    }
}
