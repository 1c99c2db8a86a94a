//! How far consumers on NATS are, asked when somebody wants to know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::debug;
use upcall_bus_nats::{NatsBus, Progress};
use upcall_telemetry::error_chain;
use upcall_telemetry::metrics::{ConsumerLabels, Metrics};

use crate::fleet::Members;
use crate::gauges::signed;

/// How long a scrape waits for the server. Later it gets what was known before.
const SCRAPE_WAIT: Duration = Duration::from_millis(300);
/// How long the server may take. One question is under way at a time.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// For how long an answer is good: several scrapers ask once.
const FRESH: Duration = Duration::from_secs(1);

/// Shows how far consumers on NATS are: as the server says when it is asked for the scrape, and, where it does not say so
/// in time, as it said last, while the oldest event goes on growing old.
pub(crate) fn of_nats(metrics: &Metrics, nats: &NatsBus, members: Members) {
    let question = Question {
        nats: nats.clone(),
        members,
        runtime: Handle::current(),
        under_way: Arc::default(),
        known: Arc::default(),
    };
    metrics.before_scrape(move |metrics| {
        question.ask();
        question.show(metrics);
    });
}

struct Question {
    nats: NatsBus,
    members: Members,
    runtime: Handle,
    under_way: Arc<AtomicBool>,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    since: Option<Instant>,
    progress: Vec<Progress>,
}

impl Question {
    /// Asks, unless that is being done, and waits for a moment.
    fn ask(&self) {
        let consumers = self.members.specs();
        if consumers.is_empty() {
            return;
        }
        let is_fresh = self.lock().since.is_some_and(|since| since.elapsed() < FRESH);
        if is_fresh || self.under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let (done, answered) = sync_channel(1);
        let nats = self.nats.clone();
        let (under_way, known) = (Arc::clone(&self.under_way), Arc::clone(&self.known));
        self.runtime.spawn(async move {
            match timeout(ANSWER_TIME, nats.progress(&consumers)).await {
                Ok(Ok(progress)) => {
                    let known = &mut *known.lock().unwrap_or_else(PoisonError::into_inner);
                    *known = Known { since: Some(Instant::now()), progress };
                }
                Ok(Err(error)) => debug!(error = error_chain(&error), "how far consumers are could not be asked"),
                Err(_) => debug!("the server does not say how far consumers are"),
            }
            under_way.store(false, Ordering::Release);
            // The scrape may have gone on without it.
            let _ = done.send(());
        });
        let _ = answered.recv_timeout(SCRAPE_WAIT);
    }

    fn show(&self, metrics: &Metrics) {
        let (now, consumers) = (Timestamp::now(), self.members.specs());
        let known = self.lock();
        // One that there is no more may have been asked about.
        let is_there = |progress: &&Progress| consumers.iter().any(|spec| spec.name == progress.consumer);
        for Progress { consumer, unsettled, oldest, dead_letters } in known.progress.iter().filter(is_there) {
            let labels = ConsumerLabels { consumer: consumer.to_string() };
            let age = oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs().max(0));
            metrics.consumer_lag.get_or_create_owned(&labels).set(signed(*unsettled));
            metrics.consumer_oldest.get_or_create_owned(&labels).set(age);
            if let Some(dead_letters) = dead_letters {
                metrics.consumer_dead.get_or_create_owned(&labels).set(signed(*dead_letters));
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
