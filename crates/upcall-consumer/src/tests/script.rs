//! A sink that does what a script says, and the world around it.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use upcall_bus::{ConsumerSpec, Message, Start, SubscribeError};
use upcall_event::{BucketSource, Event, EventId, Origin, UploadCompleted};

use super::bus::TestBus;
use crate::{Consumer, Item, Options, Sink, Source, Stats, Verdict};

/// What the sink does about one delivery of an event.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Say(Verdict),
    /// Takes the batch down.
    Panic,
    /// Never comes back.
    Hang,
    /// Gives no verdict for this event and those after it.
    Silence,
}

/// What happens in each delivery of each event; `Done` where the script ends.
#[derive(Default)]
pub(super) struct ScriptedSink {
    pub(super) script: Mutex<HashMap<EventId, VecDeque<Act>>>,
    /// What an event does every time, whatever the script says.
    pub(super) always: Mutex<HashMap<EventId, Act>>,
    /// How the next calls of `prepare` fail, last first.
    pub(super) unprepared: Mutex<Vec<Act>>,
    /// The target is out of order until then.
    pub(super) down_until: Mutex<Option<Instant>>,
    /// What the sink says of its target beside the verdicts.
    pub(super) fault: Mutex<Option<String>>,
    /// Every batch is this slow.
    pub(super) slowness: Duration,
    pub(super) ordered: bool,
    pub(super) log: Mutex<Log>,
}

/// What the sink saw.
#[derive(Default)]
pub(super) struct Log {
    pub(super) batches: Vec<Vec<EventId>>,
    /// When each batch came.
    pub(super) moments: Vec<Instant>,
    pub(super) objects_under_way: Vec<String>,
    pub(super) overlapped: bool,
    pub(super) under_way: usize,
    pub(super) under_way_max: usize,
    pub(super) order: HashMap<String, Vec<u64>>,
    pub(super) prepared: usize,
    pub(super) closed: usize,
}

#[async_trait]
impl Sink for ScriptedSink {
    async fn prepare(&self) -> Result<(), Source> {
        self.log.lock().unwrap().prepared += 1;
        let act = self.unprepared.lock().unwrap().pop();
        match act {
            None => Ok(()),
            Some(Act::Panic) => panic!("unprepared"),
            Some(Act::Hang) => pending().await,
            Some(_) => Err("not yet".into()),
        }
    }

    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict> {
        {
            let mut log = self.log.lock().unwrap();
            log.batches.push(batch.iter().map(|item| item.event.id).collect());
            log.moments.push(Instant::now());
            log.under_way += 1;
            log.under_way_max = log.under_way_max.max(log.under_way);
            for item in batch {
                let object = item.event.data.object.clone();
                log.overlapped |= log.objects_under_way.contains(&object);
                log.order.entry(object).or_default().push(item.sequence);
            }
            log.objects_under_way.extend(batch.iter().map(|item| item.event.data.object.clone()));
        }
        if !self.slowness.is_zero() {
            sleep(self.slowness).await;
        }
        {
            let mut log = self.log.lock().unwrap();
            log.under_way -= 1;
            for item in batch {
                let at = log.objects_under_way.iter().position(|object| *object == item.event.data.object).unwrap();
                log.objects_under_way.swap_remove(at);
            }
        }
        if self.down_until.lock().unwrap().is_some_and(|until| Instant::now() < until) {
            return vec![unavailable(); batch.len()];
        }
        let mut verdicts = Vec::new();
        for item in batch {
            let always = self.always.lock().unwrap().get(&item.event.id).cloned();
            let scripted = self.script.lock().unwrap().get_mut(&item.event.id).and_then(VecDeque::pop_front);
            match always.or(scripted).unwrap_or(Act::Say(Verdict::Done)) {
                Act::Say(verdict) => verdicts.push(verdict),
                Act::Panic => panic!("as the script says"),
                Act::Hang => pending().await,
                Act::Silence => return verdicts,
            }
        }
        verdicts
    }

    fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap().clone()
    }

    async fn close(&self) {
        self.log.lock().unwrap().closed += 1;
    }

    fn ordered_by_object(&self) -> bool {
        self.ordered
    }
}

/// A consumer at work between the test's bus and the scripted sink.
pub(super) struct World {
    pub(super) bus: TestBus,
    pub(super) sink: Arc<ScriptedSink>,
    pub(super) stats: Stats,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), SubscribeError>>,
}

impl World {
    pub(super) fn start(bus: &TestBus, sink: ScriptedSink, options: Options) -> Self {
        let sink = Arc::new(sink);
        let consumer = Consumer::new(Arc::new(bus.clone()), sink.clone(), options);
        let stats = consumer.stats();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(consumer.run(async { drop(stopped.await) }));
        Self { bus: bus.clone(), sink, stats, stop, running }
    }

    /// Waits, in the runtime's own time, until something is so.
    pub(super) async fn until(&self, mut so: impl FnMut(&Self) -> bool) {
        let waited = timeout(Duration::from_secs(30 * 86_400), async {
            while !so(self) {
                sleep(Duration::from_millis(100)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("it never came about: {:?}", self.stats.snapshot()));
    }

    /// Waits until every event has come to its end.
    pub(super) async fn until_settled(&self) {
        self.until(|world| world.bus.with(|ledger| ledger.left()) == 0).await;
    }

    pub(super) async fn stop(self) -> Result<(), SubscribeError> {
        drop(self.stop);
        self.running.await.unwrap()
    }

    /// Waits until the consumer ends of itself.
    pub(super) async fn ended(self) -> Result<(), SubscribeError> {
        self.running.await.unwrap()
    }
}

pub(super) fn unavailable() -> Verdict {
    Verdict::Unavailable { reason: "down".into() }
}

pub(super) fn retry(reason: &str) -> Verdict {
    Verdict::Retry { after: None, reason: reason.into() }
}

pub(super) fn options(batch_max: usize, concurrency: usize, attempts_max: u32) -> Options {
    let spec = ConsumerSpec { name: "catalog".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
    Options {
        batch_max: NonZeroUsize::new(batch_max).unwrap(),
        concurrency: NonZeroUsize::new(concurrency).unwrap(),
        attempts_max: NonZeroU32::new(attempts_max),
        ..Options::new(spec)
    }
}

pub(super) fn id(number: u64) -> EventId {
    EventId::from_request("b", "o", &number.to_string())
}

/// The event of a number, about an object.
pub(super) fn message(number: u64, object: &str) -> Message {
    let data = UploadCompleted {
        bucket: "b".into(),
        object: object.into(),
        etag: None,
        size: None,
        mime_type: None,
        crc64: None,
        content_md5: None,
        image: None,
        operation: None,
        request_id: None,
        client_ip: None,
        vpc_id: None,
        vars: [].into(),
        extra: [].into(),
        route: "r".into(),
        bucket_from: BucketSource::Body,
        proof: vec![],
        origin: Origin::Callback,
    };
    let event = Event { id: id(number), time: "2026-01-01T00:00:00Z".parse().unwrap(), data, trace: None };
    Message { subject: "upcall.uploads.b.PutObject".parse().unwrap(), event }
}

/// A bus that holds the events 0 to `events`, each about an object of its own.
pub(super) fn bus_with(events: u64) -> TestBus {
    let bus = TestBus::default();
    (0..events).for_each(|number| bus.push(message(number, &number.to_string())));
    bus
}
