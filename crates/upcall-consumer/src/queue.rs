//! What was taken off the bus and is in no batch yet.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::task::Id;
use tokio::time::Instant;
use upcall_bus::Delivery;

use crate::Options;

/// How many events are read at once at least: a bus is not asked for each of the smallest batches.
const READ_MIN: usize = 100;
/// What the events of a batch take in memory, about, unless a single one takes more. Several batches are in memory at
/// once, and sinks make copies.
const BATCH_BYTES_MAX: usize = 2 << 20;

/// What waits for a batch: for its turn, for others, or for its object.
pub(crate) struct Queue {
    /// Each with its weight.
    waiting: VecDeque<(Delivery, usize)>,
    /// What those take in memory, about.
    bytes: usize,
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
        Self { waiting: VecDeque::new(), bytes: 0, since: None, ordered_by_object, under_way: HashMap::new() }
    }

    /// How many events may be taken off the bus now; `None` while enough are here. One batch is read ahead, so that the
    /// sink need not wait for the bus.
    pub(crate) fn room(&self, options: &Options) -> Option<usize> {
        let read_max = options.batch_max.get().max(READ_MIN);
        (self.waiting.len() < read_max && self.bytes < BATCH_BYTES_MAX).then_some(read_max)
    }

    pub(crate) fn extend(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let weight = delivery.event().weight();
            self.bytes += weight;
            self.waiting.push_back((delivery, weight));
        }
        self.since = self.since.or_else(|| (!self.waiting.is_empty()).then(Instant::now));
    }

    /// Whether what waits is to wait no longer for others.
    pub(crate) fn is_due(&self, options: &Options) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= options.linger)
            || self.waiting.len() >= options.batch_max.get()
            || self.bytes >= BATCH_BYTES_MAX
    }

    /// Until when what waits may wait for others; `None` if it does not.
    pub(crate) fn due_at(&self, options: &Options) -> Option<Instant> {
        self.since.map(|since| since + options.linger).filter(|_| !self.is_due(options))
    }

    /// Takes out what may go now, in order, and says which objects that holds up; `None` if nothing may.
    pub(crate) fn next_batch(&mut self, options: &Options) -> Option<(Vec<Delivery>, Objects)> {
        let (mut batch, mut objects, mut bytes) = (Vec::new(), Objects::new(), 0);
        let mut is_full = false;
        let mut has_room = |taken: usize, bytes: usize| {
            // What comes after one that has no room does not overtake it.
            is_full |= taken >= options.batch_max.get() || taken > 0 && bytes > BATCH_BYTES_MAX;
            !is_full
        };
        if self.ordered_by_object {
            for (delivery, weight) in std::mem::take(&mut self.waiting) {
                let object = object_of(&delivery);
                let is_free = !self.under_way.values().any(|held| held.contains(&object));
                if is_free && has_room(batch.len(), bytes + weight) {
                    bytes += weight;
                    objects.insert(object);
                    batch.push(delivery);
                } else {
                    self.waiting.push_back((delivery, weight));
                }
            }
        } else {
            while let Some((delivery, weight)) =
                self.waiting.pop_front_if(|(_, weight)| has_room(batch.len(), bytes + *weight))
            {
                bytes += weight;
                batch.push(delivery);
            }
        }
        if batch.is_empty() {
            return None;
        }
        self.bytes -= bytes;
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
        self.bytes = 0;
        self.waiting.drain(..).map(|(delivery, _)| delivery).collect()
    }
}

/// Stands for the event's object.
fn object_of(delivery: &Delivery) -> u64 {
    let upload = &delivery.event().data;
    let mut hasher = DefaultHasher::new();
    (&upload.bucket, &upload.object).hash(&mut hasher);
    hasher.finish()
}
