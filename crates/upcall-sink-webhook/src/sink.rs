//! The sink: each event of a batch is one request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;
use upcall_consumer::{Item, Sink, Source, Verdict};
use upcall_egress::{Admission, Breaker, BuildError, Client, Pace};
use upcall_telemetry::trace;

use crate::Options;
use crate::judge::{Condition, GONE, judge};
use crate::message::{carry, message, sign};

/// What is left of a batch's time when the last request has used up its own.
const MARGIN: Duration = Duration::from_secs(2);

/// Posts each event to one endpoint, signed.
///
/// Requests of a batch, and of several batches, go side by side; the endpoint has to recognise an event that comes again
/// by `webhook-id`, and can tell from its time which of two is the later one.
pub struct WebhookSink {
    options: Options,
    client: Client,
    breaker: Breaker,
    pace: Option<Pace>,
    slots: Semaphore,
    /// It has answered that it is gone.
    is_gone: AtomicBool,
}

/// Why an endpoint is left alone.
#[derive(Debug, thiserror::Error)]
enum Resting {
    #[error("the endpoint has answered with status 410 Gone. {GONE}")]
    Gone,
    #[error(transparent)]
    Failing(upcall_egress::Resting),
}

impl WebhookSink {
    /// Makes a sink. The endpoint is first called when there is an event.
    ///
    /// # Errors
    /// If it is called over https, and the machine has no certificates of authorities, or TLS can't be set up.
    pub fn new(options: Options) -> Result<Self, BuildError> {
        Ok(Self {
            client: Client::new(options.client.clone(), options.endpoint.is_https())?,
            breaker: Breaker::new(options.breaker),
            pace: options.rate.map(Pace::new),
            slots: Semaphore::new(options.concurrency.get()),
            is_gone: AtomicBool::new(false),
            options,
        })
    }

    /// Says why the endpoint is to be left alone, if it is.
    fn resting(&self, now: Instant) -> Option<Resting> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Some(Resting::Gone);
        }
        self.breaker.resting(now).map(Resting::Failing)
    }

    /// One event, once there is room and time for it. The endpoint may have got out of order meanwhile.
    async fn attempt(&self, item: &Item<'_>, latest: Instant) -> Verdict {
        let Ok(_slot) = self.slots.acquire().await else { return unavailable("the sink is closed") };
        if let Some(resting) = self.resting(Instant::now()) {
            return unavailable(resting);
        }
        let patience = latest.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return unavailable("the endpoint is too slow for as many events as a batch has");
        }
        if let Some(pace) = &self.pace
            && let Err(too_long) = pace.turn(patience).await
        {
            return unavailable(format_args!("the rate leaves no time for as many events as a batch has: {too_long}"));
        }
        match self.breaker.admit(Instant::now()) {
            Admission::Free | Admission::Trial => self.post(item).await,
            Admission::Refused { .. } => match self.resting(Instant::now()) {
                Some(resting) => unavailable(resting),
                None => unavailable("another event tries the endpoint"),
            },
        }
    }

    async fn post(&self, item: &Item<'_>) -> Verdict {
        let (mut headers, body) = message(item.event, self.options.format);
        headers.extend(self.options.headers.clone());
        let id = item.event.id.to_string();
        sign(&mut headers, &self.options.secrets, &id, Timestamp::now().as_second(), &body);
        let span = trace::post(item.span, self.options.endpoint.host());
        carry(&mut headers, trace::context(&span).as_ref());
        let posted = self.client.post(&self.options.endpoint, headers, body).instrument(span.clone()).await;
        if let Ok(response) = &posted {
            span.record("http.response.status_code", response.status.as_u16());
        }
        let judgement = judge(&self.options, (item.event.id, item.attempt), &posted, SystemTime::now());
        self.note(judgement.endpoint, judgement.verdict.reason().unwrap_or_default());
        trace::ended(&span, "upcall.outcome", judgement.verdict.name(), judgement.verdict != Verdict::Done);
        judgement.verdict
    }

    /// Takes note of what an attempt says about the endpoint, and why.
    fn note(&self, condition: Condition, reason: &str) {
        let now = Instant::now();
        match condition {
            Condition::Works => self.breaker.succeeded(),
            Condition::Fails => self.breaker.failed(now, reason),
            Condition::Unreachable => self.breaker.trip(now, reason),
            Condition::Busy(wait) => {
                self.breaker.hold(now + wait, reason);
                if let Some(pace) = &self.pace {
                    pace.hold(now + wait);
                }
            }
            Condition::Gone => {
                if !self.is_gone.swap(true, Ordering::Relaxed) {
                    let host = self.options.endpoint.host();
                    tracing::error!(host, "the endpoint has answered 410 Gone. {GONE}");
                }
            }
        }
    }
}

#[async_trait]
impl Sink for WebhookSink {
    /// Succeeds when the endpoint may be tried again.
    async fn prepare(&self) -> Result<(), Source> {
        self.resting(Instant::now()).map_or(Ok(()), |resting| Err(resting.into()))
    }

    fn fault(&self) -> Option<String> {
        self.resting(Instant::now()).map(|resting| resting.to_string())
    }

    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict> {
        let latest = Instant::now() + self.options.batch_time.saturating_sub(self.options.client.timeout + MARGIN);
        let (mut verdicts, mut rest) = (Vec::with_capacity(batch.len()), batch);
        // After an outage one event tries, and the others wait for what it finds.
        while !self.breaker.is_closed()
            && let Some((trial, others)) = rest.split_first()
        {
            verdicts.push(self.attempt(trial, latest).await);
            rest = others;
            if let Some(resting) = self.resting(Instant::now()) {
                verdicts.extend(rest.iter().map(|_| unavailable(&resting)));
                return verdicts;
            }
        }
        verdicts.extend(join_all(rest.iter().map(|item| self.attempt(item, latest))).await);
        verdicts
    }
}

fn unavailable(reason: impl std::fmt::Display) -> Verdict {
    Verdict::Unavailable { reason: reason.to_string() }
}
