//! What was taken off the bus and is in no batch yet.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::task::Id;
use tokio::time::Instant;
use upcall_bus::Delivery;

use crate::Options;

/// How many events are read at once at least: a bus is not asked for each of the smallest batches.
const READ_MIN: usize = 100;

/// What waits for a batch: for its turn, for others, or for its object.
pub(crate) struct Queue {
    waiting: VecDeque<Delivery>,
    /// Since when the first of them waits for others.
    since: Option<Instant>,
    ordered_by_object: bool,
    /// The objects of each batch under way, for a sink that is ordered by object.
    under_way: HashMap<Id, Objects>,
}

/// The objects of a batch, for a sink that is ordered by object. Two that share a number only wait for each other.
pub(crate) type Objects = HashSet<u64>;

impl Queue {
    pub(crate) fn new(ordered_by_object: bool) -> Self {
        Self { waiting: VecDeque::new(), since: None, ordered_by_object, under_way: HashMap::new() }
    }

    /// How many events may be taken off the bus now; `None` while enough are here. One batch is read ahead, so that the
    /// sink need not wait for the bus.
    pub(crate) fn room(&self, options: &Options) -> Option<usize> {
        let read_max = options.batch_max.get().max(READ_MIN);
        (self.waiting.len() < read_max).then_some(read_max)
    }

    pub(crate) fn extend(&mut self, deliveries: Vec<Delivery>) {
        self.waiting.extend(deliveries);
        self.since = self.since.or_else(|| (!self.waiting.is_empty()).then(Instant::now));
    }

    /// Whether what waits is to wait no longer for others.
    pub(crate) fn is_due(&self, options: &Options) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= options.linger)
            || self.waiting.len() >= options.batch_max.get()
    }

    /// Until when what waits may wait for others; `None` if it does not.
    pub(crate) fn due_at(&self, options: &Options) -> Option<Instant> {
        self.since.map(|since| since + options.linger).filter(|_| !self.is_due(options))
    }

    /// Takes out what may go now, in order, and says which objects that holds up; `None` if nothing may.
    pub(crate) fn next_batch(&mut self, options: &Options) -> Option<(Vec<Delivery>, Objects)> {
        let batch_max = options.batch_max.get();
        let (mut batch, mut objects) = (Vec::new(), Objects::new());
        if self.ordered_by_object {
            for delivery in std::mem::take(&mut self.waiting) {
                let object = object_of(&delivery);
                if batch.len() < batch_max && !self.under_way.values().any(|held| held.contains(&object)) {
                    objects.insert(object);
                    batch.push(delivery);
                } else {
                    self.waiting.push_back(delivery);
                }
            }
        } else {
            batch.extend(self.waiting.drain(..batch_max.min(self.waiting.len())));
        }
        if batch.is_empty() {
            return None;
        }
        self.since = (!self.waiting.is_empty()).then(Instant::now);
        Some((batch, objects))
    }

    /// Lets a batch's objects wait until it is done.
    pub(crate) fn hold(&mut self, batch: Id, objects: Objects) {
        if self.ordered_by_object {
            self.under_way.insert(batch, objects);
        }
    }

    /// Lets a batch's objects wait no longer.
    pub(crate) fn release(&mut self, batch: Id) {
        self.under_way.remove(&batch);
    }

    /// Takes out everything.
    pub(crate) fn take_all(&mut self) -> Vec<Delivery> {
        self.since = None;
        self.waiting.drain(..).collect()
    }
}

/// Stands for the event's object.
fn object_of(delivery: &Delivery) -> u64 {
    let upload = &delivery.event().data;
    let mut hasher = DefaultHasher::new();
    (&upload.bucket, &upload.object).hash(&mut hasher);
    hasher.finish()
}
