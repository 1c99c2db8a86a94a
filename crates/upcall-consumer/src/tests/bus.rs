//! A bus in memory, for tests, that counts what the real ones promise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use upcall_bus::{
    Bus, ConsumerSpec, Deadline, Delivery, Message, PublishError, Publisher, Receipt, SettleError, SettleErrorKind,
    Settlement, Settler, SubscribeError, SubscribeErrorKind, Subscription,
};
use upcall_event::EventId;

/// A bus in memory with one consumer.
#[derive(Clone, Default)]
pub(super) struct TestBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<Ledger>,
    changed: Notify,
}

/// All that the bus knows; tests read it.
#[derive(Default)]
pub(super) struct Ledger {
    entries: BTreeMap<u64, Entry>,
    published: u64,
    pub(super) done: Vec<EventId>,
    pub(super) dead: Vec<(EventId, u32, String)>,
    pub(super) handed_back: usize,
    /// How many settlements are refused from now on.
    pub(super) refuse: usize,
    /// How many settlements come too late from now on.
    pub(super) lose: usize,
    /// What the next reads and subscriptions fail with, last first.
    pub(super) failures: Vec<SubscribeErrorKind>,
    pub(super) subscribed: bool,
    /// How long a read takes, and an acknowledgement.
    pub(super) slowness: Duration,
}

struct Entry {
    message: Message,
    failures: u32,
    due: Instant,
    out: bool,
}

impl TestBus {
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        let result = look(&mut self.shared.state.lock().unwrap());
        self.shared.changed.notify_waiters();
        result
    }

    pub(super) fn push(&self, message: Message) {
        self.with(|ledger| {
            ledger.published += 1;
            let entry = Entry { message, failures: 0, due: Instant::now(), out: false };
            ledger.entries.insert(ledger.published, entry);
        });
    }
}

impl Ledger {
    /// Events that are not settled for good.
    pub(super) fn left(&self) -> usize {
        self.entries.len()
    }

    /// Events that are delivered and not settled.
    pub(super) fn out(&self) -> usize {
        self.entries.values().filter(|entry| entry.out).count()
    }

    /// How often an event that is left has failed.
    pub(super) fn failures(&self, id: EventId) -> Option<u32> {
        self.entries.values().find(|entry| entry.message.event.id == id).map(|entry| entry.failures)
    }
}

#[async_trait]
impl Publisher for TestBus {
    async fn publish(&self, message: Message, _: Deadline) -> Result<Receipt, PublishError> {
        self.push(message);
        Ok(Receipt::Stored)
    }
}

#[async_trait]
impl Bus for TestBus {
    async fn subscribe(&self, _: &ConsumerSpec) -> Result<Box<dyn Subscription>, SubscribeError> {
        self.with(|ledger| {
            if let Some(kind) = ledger.failures.pop() {
                return Err(SubscribeError::from(kind));
            }
            ledger.subscribed = true;
            Ok(())
        })?;
        Ok(Box::new(Reader { bus: self.clone(), ready_at: Instant::now() }))
    }
}

struct Reader {
    bus: TestBus,
    ready_at: Instant,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.bus.with(|ledger| ledger.subscribed = false);
    }
}

#[async_trait]
impl Subscription for Reader {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, SubscribeError> {
        sleep_until(self.ready_at).await;
        loop {
            let changed = self.bus.shared.changed.notified();
            let mut wake = Instant::now() + Duration::from_secs(3600);
            {
                let mut ledger = self.bus.shared.state.lock().unwrap();
                if let Some(kind) = ledger.failures.pop() {
                    return Err(kind.into());
                }
                let mut deliveries = Vec::new();
                for (&sequence, entry) in ledger.entries.iter_mut().filter(|(_, entry)| !entry.out) {
                    if entry.due <= Instant::now() && deliveries.len() < max {
                        entry.out = true;
                        let settler = Box::new(Ticket { bus: self.bus.clone(), sequence });
                        let Message { subject, event } = entry.message.clone();
                        deliveries.push(Delivery::new(subject, event, entry.failures + 1, sequence, settler));
                    } else {
                        wake = wake.min(entry.due);
                    }
                }
                if !deliveries.is_empty() {
                    self.ready_at = Instant::now() + ledger.slowness;
                    return Ok(deliveries);
                }
            }
            tokio::select! { () = changed => {}, () = sleep_until(wake) => {} }
        }
    }
}

struct Ticket {
    bus: TestBus,
    sequence: u64,
}

#[async_trait]
impl Settler for Ticket {
    async fn settle(&mut self, settlement: &Settlement) -> Result<(), SettleError> {
        tokio::task::yield_now().await;
        sleep(self.bus.with(|ledger| ledger.slowness)).await;
        self.bus.with(|ledger| {
            if ledger.refuse > 0 {
                ledger.refuse -= 1;
                return Err(SettleErrorKind::Unavailable.into());
            }
            if ledger.lose > 0 {
                ledger.lose -= 1;
                return Err(SettleErrorKind::Lost.into());
            }
            let entry = ledger.entries.get_mut(&self.sequence).filter(|entry| entry.out);
            let entry = entry.expect("a delivery is settled once");
            entry.out = false;
            let id = entry.message.event.id;
            match settlement {
                Settlement::Retry { after, .. } => {
                    entry.failures += 1;
                    entry.due = Instant::now() + *after;
                }
                Settlement::HandBack => ledger.handed_back += 1,
                Settlement::Ack => {
                    ledger.done.push(id);
                    ledger.entries.remove(&self.sequence);
                }
                Settlement::DeadLetter { reason } => {
                    ledger.dead.push((id, entry.failures + 1, reason.clone()));
                    ledger.entries.remove(&self.sequence);
                }
            }
            Ok(())
        })
    }

    fn hand_back(&mut self) {
        self.bus.with(|ledger| {
            if let Some(entry) = ledger.entries.get_mut(&self.sequence).filter(|entry| entry.out) {
                entry.out = false;
                ledger.handed_back += 1;
            }
        });
    }
}
