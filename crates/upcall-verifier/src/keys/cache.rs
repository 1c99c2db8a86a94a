//! Keys that were fetched: one fetch at a time for one URL, and few of them, whoever asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use upcall_bus::Deadline;
use upcall_callback::{KeyUrl, PublicKey};
use upcall_telemetry::metrics::Metrics;

use super::{FetchFailure, KeyFetcher, KeyUnavailable};

/// How long a fetch may take. It must leave time to publish, of the 4.5 seconds that a callback has.
pub(super) const FETCH_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a failed fetch is not tried again.
const FAILURE_KEPT: Duration = Duration::from_secs(30);
/// How many URLs are remembered, with their key, their failure, or their fetch, beside OSS's next ones. OSS has one key
/// in all.
const URLS_MAX: usize = 32;
/// How many fetches may be made at once after a quiet time, since strangers choose the URL. OSS's next keys don't count:
/// there are few such URLs, each is tried every half a minute at most, and no flood of others may keep them out.
const FETCHES_BURST: u32 = 8;
/// How often one more fetch may be made.
const FETCH_EVERY: Duration = Duration::from_secs(10);

/// The outcome of a fetch, for everybody who waits for it.
type Outcome = Result<PublicKey, Arc<FetchFailure>>;

#[derive(Clone)]
pub(super) struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    fetcher: Arc<dyn KeyFetcher>,
    metrics: Metrics,
    state: Mutex<State>,
}

struct State {
    entries: HashMap<String, Entry>,
    allowance: Allowance,
}

enum Entry {
    /// Behind a key URL the content never changes, so a key is kept as long as the process lives.
    Known(PublicKey),
    Failed {
        until: Instant,
        failure: Arc<FetchFailure>,
    },
    Fetching(watch::Receiver<Option<Outcome>>),
}

impl Cache {
    pub(super) fn new(fetcher: Arc<dyn KeyFetcher>, metrics: Metrics) -> Self {
        // Begins with zero.
        let _ = metrics.key_fetches.get();
        let state = State { entries: HashMap::new(), allowance: Allowance::new(Instant::now()) };
        Self { shared: Arc::new(Shared { fetcher, metrics, state: Mutex::new(state) }) }
    }

    /// The key behind an https URL.
    pub(super) async fn key(&self, url: String, deadline: Deadline) -> Result<PublicKey, KeyUnavailable> {
        let mut waiting = match self.look_up(&url)? {
            Found::Key(key) => return Ok(key),
            Found::Fetch(waiting) => waiting,
        };
        let outcome = match timeout_at(deadline.instant().into(), waiting.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            // The fetching task is gone, as when the runtime shuts down.
            Ok(Err(_)) | Err(_) => None,
        };
        match outcome {
            Some(Ok(key)) => Ok(key),
            Some(Err(failure)) => Err(failed(url, failure)),
            None => Err(KeyUnavailable::StillFetching { url }),
        }
    }

    fn look_up(&self, url: &str) -> Result<Found, KeyUnavailable> {
        let now = Instant::now();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.entries.get(url) {
            Some(Entry::Known(key)) => return Ok(Found::Key(key.clone())),
            // A fetch whose task has gone without an outcome is made anew.
            Some(Entry::Fetching(waiting)) if waiting.has_changed().is_ok() || waiting.borrow().is_some() => {
                return Ok(Found::Fetch(waiting.clone()));
            }
            Some(Entry::Failed { until, failure }) if now < *until => {
                return Err(failed(url.to_owned(), Arc::clone(failure)));
            }
            Some(Entry::Failed { .. } | Entry::Fetching(_)) | None => {}
        }
        state.entries.retain(|_, entry| !matches!(entry, Entry::Failed { until, .. } if *until <= now));
        let mut is_of_a_flood = || state.entries.len() >= URLS_MAX || !state.allowance.take(now);
        if !is_successor(url) && is_of_a_flood() {
            return Err(KeyUnavailable::TooManyFetches { url: url.to_owned() });
        }
        let (sender, waiting) = watch::channel(None);
        state.entries.insert(url.to_owned(), Entry::Fetching(waiting.clone()));
        drop(state);
        // A task of its own: the callback that asked first may be given up while others wait for the key.
        tokio::spawn(fetch(Arc::clone(&self.shared), url.to_owned(), sender));
        Ok(Found::Fetch(waiting))
    }
}

fn failed(url: String, failure: Arc<FetchFailure>) -> KeyUnavailable {
    match *failure {
        FetchFailure::Unknown => KeyUnavailable::Unknown { url },
        _ => KeyUnavailable::Failed { url, source: failure },
    }
}

fn is_successor(url: &str) -> bool {
    KeyUrl::parse(url, |_| false).is_ok_and(|url| url.is_successor())
}

enum Found {
    Key(PublicKey),
    Fetch(watch::Receiver<Option<Outcome>>),
}

async fn fetch(shared: Arc<Shared>, url: String, sender: watch::Sender<Option<Outcome>>) {
    shared.metrics.key_fetches.get().inc();
    let outcome = match timeout(FETCH_TIME_MAX, shared.fetcher.fetch(&url)).await {
        Ok(Ok(Some(pem))) => PublicKey::from_pem(&pem).map_err(FetchFailure::Key),
        Ok(Ok(None)) => Err(FetchFailure::Unknown),
        Ok(Err(source)) => Err(FetchFailure::Request(source)),
        Err(_) => Err(FetchFailure::TooSlow),
    };
    let outcome = outcome.map_err(Arc::new);
    let entry = match &outcome {
        Ok(key) => {
            tracing::info!(url, fingerprint = key.fingerprint(), bits = key.bits(), "fetched a public key");
            Entry::Known(key.clone())
        }
        Err(failure) => {
            let cause = std::error::Error::source(&**failure).map(ToString::to_string);
            tracing::warn!(url, cause, "could not fetch a public key: {failure}");
            Entry::Failed { until: Instant::now() + FAILURE_KEPT, failure: Arc::clone(failure) }
        }
    };
    shared.state.lock().unwrap_or_else(PoisonError::into_inner).entries.insert(url, entry);
    // Nobody may be waiting any more.
    let _ = sender.send(Some(outcome));
}

/// How many fetches may be made now: a bucket that fills again over time.
struct Allowance {
    left: u32,
    refilled: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: FETCHES_BURST, refilled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.left < FETCHES_BURST && now.duration_since(self.refilled) >= FETCH_EVERY {
            self.left += 1;
            self.refilled += FETCH_EVERY;
        }
        if self.left == FETCHES_BURST {
            self.refilled = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
