//! A sink that keeps what it is handed in memory: it passes the suite, and with a fault it does not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use upcall_event::{Event, EventId};

use crate::conformance::{self, Target};
use crate::{Item, Sink, Source, Verdict};

/// What is wrong with a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It does not look whether it knows an id.
    Forgetful,
    /// It knows ids only as long as it lives.
    ForgetfulAfterACrash,
    /// It records an id before its effect, and lets go of it in between.
    Hasty,
    /// It says that everything is done.
    Optimist,
    /// It kills what the target does not take.
    Pessimist,
    /// One refused event takes the batch with it.
    AllOrNothing,
    /// It never finds the target again.
    Resentful,
    /// It begins with the last event.
    Backwards,
    /// It leaves the last event out, and gives no verdict for it.
    Short,
}

#[derive(Default)]
struct Memory {
    effects: Vec<EventId>,
    known: BTreeSet<EventId>,
    refused: BTreeSet<EventId>,
}

struct Recorder {
    memory: Arc<Mutex<Memory>>,
    away: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
    fault: Fault,
}

struct RecordingSink {
    memory: Arc<Mutex<Memory>>,
    away: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
    fault: Fault,
    known: Mutex<BTreeSet<EventId>>,
    resentful: AtomicBool,
}

impl Recorder {
    fn new(fault: Fault) -> Self {
        Self { memory: Arc::default(), away: Arc::default(), slow: Arc::default(), fault }
    }
}

#[async_trait]
impl Target for Recorder {
    async fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(RecordingSink {
            memory: self.memory.clone(),
            away: self.away.clone(),
            slow: self.slow.clone(),
            fault: self.fault,
            known: Mutex::default(),
            resentful: AtomicBool::new(false),
        })
    }

    async fn effects(&self) -> Vec<EventId> {
        self.memory.lock().unwrap().effects.clone()
    }

    async fn stop(&self) {
        self.away.store(true, Ordering::SeqCst);
    }

    async fn slow_down(&self) {
        self.slow.store(true, Ordering::SeqCst);
    }

    async fn refuse(&self, event: &Event) {
        self.memory.lock().unwrap().refused.insert(event.id);
    }

    async fn heal(&self) {
        self.away.store(false, Ordering::SeqCst);
        self.slow.store(false, Ordering::SeqCst);
        self.memory.lock().unwrap().refused.clear();
    }
}

impl RecordingSink {
    fn unavailable(&self) -> bool {
        let away = self.away.load(Ordering::SeqCst);
        if away && self.fault == Fault::Resentful {
            self.resentful.store(true, Ordering::SeqCst);
        }
        away || self.resentful.load(Ordering::SeqCst)
    }

    /// Whether the event was applied before, as far as this sink can tell.
    fn knows(&self, memory: &mut Memory, id: EventId) -> bool {
        match self.fault {
            Fault::Forgetful => false,
            Fault::ForgetfulAfterACrash => !self.known.lock().unwrap().insert(id),
            _ => !memory.known.insert(id),
        }
    }

    async fn take(&self, event: &Event) -> Verdict {
        let reason = || "no".to_owned();
        if self.unavailable() {
            return match self.fault {
                Fault::Optimist => Verdict::Done,
                Fault::Pessimist => Verdict::Dead { reason: reason() },
                _ => Verdict::Unavailable { reason: "away".into() },
            };
        }
        if self.slow.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
        tokio::task::yield_now().await;
        if self.memory.lock().unwrap().refused.contains(&event.id) {
            return Verdict::Retry { after: None, reason: reason() };
        }
        if self.fault == Fault::Hasty {
            if !self.memory.lock().unwrap().known.insert(event.id) {
                return Verdict::Done;
            }
            tokio::task::yield_now().await;
            self.memory.lock().unwrap().effects.push(event.id);
            return Verdict::Done;
        }
        let mut memory = self.memory.lock().unwrap();
        if !self.knows(&mut memory, event.id) {
            memory.effects.push(event.id);
        }
        Verdict::Done
    }
}

#[async_trait]
impl Sink for RecordingSink {
    async fn prepare(&self) -> Result<(), Source> {
        if self.unavailable() { Err("away".into()) } else { Ok(()) }
    }

    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Done; batch.len()];
        let mut order: Vec<usize> = (0..batch.len()).collect();
        if self.fault == Fault::Backwards {
            order.reverse();
        }
        for at in order {
            verdicts[at] = self.take(batch[at].event).await;
        }
        match self.fault {
            Fault::AllOrNothing => {
                if let Some(failed) = verdicts.iter().find(|verdict| **verdict != Verdict::Done).cloned() {
                    verdicts.fill(failed);
                }
            }
            Fault::Short => drop(verdicts.pop()),
            _ => {}
        }
        verdicts
    }

    fn ordered_by_object(&self) -> bool {
        true
    }
}

async fn recorder() -> Recorder {
    Recorder::new(Fault::None)
}

crate::conformance_tests!(recorder);

/// Runs one property on a sink with a fault, and tells whether it was found out.
macro_rules! finds {
    ($property:ident, $fault:ident) => {{
        let property = tokio::spawn(async { conformance::$property(&Recorder::new(Fault::$fault)).await });
        let failed = property.await.is_err_and(|error| error.is_panic());
        assert!(failed, "{} does not find {:?}", stringify!($property), Fault::$fault);
    }};
}

#[tokio::test(start_paused = true)]
async fn the_suite_finds_what_is_wrong_with_a_sink() {
    finds!(an_event_delivered_twice_has_one_effect, Forgetful);
    finds!(an_event_twice_in_a_batch_has_one_effect, Forgetful);
    finds!(a_delivery_that_is_dropped_midway_may_come_again, Forgetful);
    finds!(a_delivery_that_is_dropped_midway_may_come_again, Hasty);
    finds!(a_crash_between_effect_and_ack_has_no_second_effect, ForgetfulAfterACrash);
    finds!(a_target_that_is_away_costs_no_event_and_is_found_again, Optimist);
    finds!(a_target_that_is_away_costs_no_event_and_is_found_again, Pessimist);
    finds!(a_target_that_is_away_costs_no_event_and_is_found_again, Resentful);
    finds!(a_poisonous_event_fails_alone, AllOrNothing);
    finds!(an_objects_events_take_effect_in_their_order, Backwards);
    finds!(any_event_arrives, Short);
}
