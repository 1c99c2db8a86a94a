//! What a consumer did and how it is, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use upcall_event::EventId;

use crate::failing::{Failing, Retrying};

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
    condition: Mutex<Condition>,
    /// How many events are done that the bus does not take as such.
    late: AtomicU64,
    late_reason: Mutex<Option<String>>,
    last_error: Mutex<Option<String>>,
    failing: Mutex<Failing>,
}

#[derive(Debug, Default)]
struct Condition {
    state: State,
    fault: Option<String>,
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
    /// Why it is so, where it is not ready: what is wrong with the target or the bus, or why it has stopped.
    pub fault: Option<String>,
    /// The last thing that went wrong, even if it is right again.
    pub last_error: Option<String>,
}

/// How a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum State {
    /// It has not reached its bus or its target yet.
    #[default]
    Starting,
    /// Events flow.
    Ready,
    /// The target is out of order.
    TargetDown,
    /// The bus can't be read, or does not take what became of events.
    BusDown,
    /// It shuts down: what is under way finishes.
    Draining,
    /// It has ended.
    Stopped,
}

impl State {
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
        let (state, fault) = self.condition();
        Snapshot {
            delivered: read(&inner.delivered),
            done: read(&inner.done),
            skipped: read(&inner.skipped),
            retried: read(&inner.retried),
            dead: read(&inner.dead),
            handed_back: read(&inner.handed_back),
            unsettled: read(&inner.unsettled),
            in_flight: read(&inner.in_flight),
            state,
            fault,
            last_error: inner.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// How the consumer is.
    #[must_use]
    pub fn state(&self) -> State {
        self.condition().0
    }

    /// How the consumer is, and why, where it is not ready.
    #[must_use]
    pub fn condition(&self) -> (State, Option<String>) {
        let condition = self.0.condition.lock().unwrap_or_else(PoisonError::into_inner);
        let is_at_work = matches!(condition.state, State::Starting | State::Ready | State::TargetDown);
        if is_at_work && self.is_late() {
            let reason = self.0.late_reason.lock().unwrap_or_else(PoisonError::into_inner);
            return (State::BusDown, reason.as_ref().map(|reason| not_taken(reason)));
        }
        (condition.state, condition.fault.clone())
    }

    /// Whether the bus is being told of events that are done, and has not taken that for long.
    pub(crate) fn is_late(&self) -> bool {
        self.0.late.load(Ordering::Relaxed) > 0
    }

    /// Counts an event that is done as one that the bus has not taken as such for long, until the guard is dropped.
    pub(crate) fn late(&self, reason: &str) -> Late {
        self.failed(reason);
        *self.0.late_reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        self.0.late.fetch_add(1, Ordering::Relaxed);
        Late(self.clone())
    }

    /// Whether events flow.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }

    pub(crate) fn enter(&self, state: State, fault: Option<&str>) {
        let fault = fault.map(str::to_owned);
        *self.0.condition.lock().unwrap_or_else(PoisonError::into_inner) = Condition { state, fault };
    }

    pub(crate) fn failed(&self, error: &str) {
        *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
    }

    /// What has failed and waits for its next attempt, if anything does.
    #[must_use]
    pub fn retrying(&self) -> Option<Retrying> {
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner).retrying(Instant::now())
    }

    /// Takes note that an event is tried again. If that is worth a line, gives how many others it stands for.
    pub(crate) fn retries(&self, event: EventId, after: Duration, reason: &str) -> Option<u64> {
        self.failed(reason);
        let mut failing = self.0.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.failed(event, after, reason, Instant::now())
    }

    /// Takes note that an event which may have failed before is tried no more.
    pub(crate) fn retries_no_more(&self, event: &EventId) {
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner).ended(event);
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

/// What is wrong with a bus that can be read.
pub(crate) fn not_taken(reason: &str) -> String {
    format!("it does not take what became of events: {reason}")
}

/// An event that is done, which the bus has not taken as such for long.
pub(crate) struct Late(Stats);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.0.late.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Shows, however a consumer ends, that it has.
pub(crate) struct Ending {
    stats: Stats,
    fault: Option<String>,
}

impl Ending {
    pub(crate) fn new(stats: Stats) -> Self {
        Self { stats, fault: Some("it was cut off".to_owned()) }
    }

    /// Takes note of how it has ended: in order, or why not.
    pub(crate) fn ended(&mut self, fault: Option<String>) {
        self.fault = fault;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.stats.enter(State::Stopped, self.fault.as_deref());
    }
}
