//! Callbacks whose answer a service computes.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tracing::Instrument;
use upcall_bus::{Deadline, Message, Receipt};
use upcall_event::Event;
use upcall_responder::{AskError, AskErrorKind, Asking, Reply, Verdict, When};
use upcall_telemetry::trace::{self, CallbackTrace};
use upcall_verifier::Verifier;

use crate::callback::{Progress, Shared};
use crate::error::{Error, RequestErrorKind, with_causes};
use crate::measure::Stopwatch;
use crate::routes::BoundRoute;

/// What is kept back of a callback's time to send the answer; at most a tenth of it.
const SENDING: Duration = Duration::from_millis(50);
/// What is kept back, where the service is asked first, to publish the event; at most a quarter of it.
const PUBLISHING: Duration = Duration::from_millis(500);

/// An admitted callback, about which a service is asked.
pub(crate) struct Asked<'s> {
    pub(crate) verifier: &'s Verifier,
    pub(crate) route: &'s BoundRoute,
    pub(crate) asking: &'s Asking,
    pub(crate) message: Message,
    /// Its place among the callbacks that are being worked on.
    pub(crate) permit: SemaphorePermit<'s>,
    pub(crate) deadline: Deadline,
}

impl Shared {
    /// Publishes and asks, in the route's order.
    ///
    /// While it waits for the service, a callback holds a place of its route's only: a service that hangs must not keep
    /// other routes' callbacks from being worked on.
    pub(crate) async fn take_asking(
        &self,
        callback: Asked<'_>,
        mut stopwatch: Stopwatch,
        progress: &mut Progress<'_>,
    ) -> Result<(Bytes, Receipt), Error> {
        let Asked { verifier, route, asking, message, permit, deadline } = callback;
        match asking.options.when {
            When::Before => {
                drop(permit);
                let asked = self.ask(route, asking, &message.event, deadline, &progress.trace).await;
                stopwatch.lap(self.measures.ask.get());
                let answer = self.conclude_question(route, asking, &message.event, asked, progress)?;
                let _permit = self.permits.try_acquire().map_err(|_| RequestErrorKind::Overloaded)?;
                let receipt = self.publish(verifier, message, deadline, &progress.trace).await?;
                self.measures.count_accepted();
                stopwatch.lap(&self.measures.publish);
                Ok((answer, receipt))
            }
            When::After => {
                let event = message.event.clone();
                let receipt = self.publish(verifier, message, deadline, &progress.trace).await?;
                self.measures.count_accepted();
                stopwatch.lap(&self.measures.publish);
                drop(permit);
                let asked = self.ask(route, asking, &event, deadline, &progress.trace).await;
                stopwatch.lap(self.measures.ask.get());
                Ok((self.conclude_question(route, asking, &event, asked, progress)?, receipt))
            }
        }
    }

    /// Asks, as long as the route allows and the callback has time.
    async fn ask(
        &self,
        route: &BoundRoute,
        asking: &Asking,
        event: &Event,
        deadline: Deadline,
        trace: &CallbackTrace,
    ) -> Result<Reply, AskError> {
        let _place = route.questions.try_acquire().map_err(|_| AskErrorKind::Busy)?;
        let left = deadline.remaining().saturating_sub(kept_back(asking.options.when, self.limits.budget));
        let limit = asking.options.timeout.min(left);
        if limit.is_zero() {
            return Err(AskErrorKind::Timeout.into());
        }
        let span = trace.ask();
        let asked = timeout(limit, asking.service.ask(event, limit)).instrument(span.clone()).await;
        let asked = asked.unwrap_or_else(|_| Err(AskErrorKind::Timeout.into()));
        let outcome = asked.as_ref().map_or_else(|error| error.kind.code(), |_| "replied");
        trace::ended(&span, "upcall.outcome", outcome, asked.is_err());
        asked
    }

    /// Judges and counts what the service said.
    fn conclude_question(
        &self,
        route: &BoundRoute,
        asking: &Asking,
        event: &Event,
        asked: Result<Reply, AskError>,
        progress: &mut Progress<'_>,
    ) -> Result<Bytes, Error> {
        let verdict = asking.judge(event, asked);
        let outcome = match &verdict {
            Verdict::Answer(_) => "answered",
            Verdict::Vetoed(_) => "vetoed",
            Verdict::Fallback { cause, .. } | Verdict::Failed(cause) => cause.kind.code(),
        };
        let name = route.policy.name();
        self.measures.count_question(name, outcome);
        match verdict {
            Verdict::Answer(answer) => Ok(answer),
            Verdict::Fallback { answer, cause } => {
                let cause = with_causes(&cause);
                if let Some(suppressed) = self.rejections.may_log() {
                    let request_id = event.data.request_id.as_deref();
                    tracing::warn!(route = name, event = %event.id, request_id, suppressed, "answered with the fallback: {cause}");
                }
                progress.fallback = Some(cause);
                Ok(answer.into())
            }
            Verdict::Vetoed(veto) => Err(Error::Vetoed { veto, shown: asking.options.veto }),
            Verdict::Failed(cause) => Err(Error::Unanswered { cause, is_durable: asking.options.when == When::After }),
        }
    }
}

/// What a question must leave of a callback's time.
fn kept_back(when: When, budget: Duration) -> Duration {
    let sending = SENDING.min(budget / 10);
    match when {
        When::After => sending,
        When::Before => sending + PUBLISHING.min(budget / 4),
    }
}
