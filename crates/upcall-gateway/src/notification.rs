//! OSS's event notifications, which become events as callbacks do, but for what they prove.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;
use upcall_bus::{Deadline, Message, Receipt};
use upcall_callback::{Notification, NotificationError, Notifications};
use upcall_telemetry::trace::CallbackTrace;
use upcall_verifier::{Refusal, Verifier};

use crate::answer;
use crate::callback::{Progress, Quarantined, Shared};
use crate::error::{Error, RequestErrorKind};
use crate::function::failed;
use crate::options::FunctionOptions;
use crate::routes::BoundRoute;
use crate::site::Site;

/// How many notifications of a list are published at a time: a list takes hardly longer than one, however far the bus is.
const AT_ONCE: usize = 16;

/// Which notification of a list it is about, as far as that is known.
struct About<'s> {
    request_id: Option<String>,
    route: Option<&'s BoundRoute>,
}

/// A notification that is to be published, if it may be.
type Admission<'s> = (About<'s>, Result<Message, Error>);

/// What became of the notifications of a list.
#[derive(Default)]
struct Outcome {
    stored: usize,
    duplicates: usize,
    /// Those that can never be taken.
    refused: usize,
    /// Those that may be taken later.
    failed: usize,
    /// Each, in their order.
    uploads: Vec<Value>,
    /// The answer to the list, where one has failed.
    failure: Option<(StatusCode, Value)>,
}

impl Shared {
    /// Publishes the uploads of which an OSS trigger tells, each by itself, and answers once all of them are durable that
    /// can be. What can never be taken is refused, and no reason to be told of the others again. Where something failed that may
    /// pass, the whole is reported as failed, and made again; what was published then is a duplicate.
    pub(crate) async fn answer_notifications(
        &self,
        function: &FunctionOptions,
        event: &[u8],
        parts: &Parts,
        peer: SocketAddr,
        progress: Progress<'_>,
    ) -> Response<Full<Bytes>> {
        let Ok(Notifications { uploads, others }) = Notifications::parse(event) else {
            return failed(self.refuse(RequestErrorKind::EventMalformed, parts, peer, &progress));
        };
        // A reload meanwhile changes nothing for these.
        let site = self.site.load_full();
        let uploads: Vec<Admission<'_>> = uploads.into_iter().map(|upload| self.admit(&site, upload)).collect();
        // Once for all of them, since they grow old together.
        sleep(longest_wait(&uploads, Timestamp::now(), function.notification_wait)).await;
        let deadline = Deadline::after(self.limits.budget);
        let publishing: Vec<_> =
            uploads.into_iter().map(|upload| self.publish_notification(&site.verifier, upload, deadline)).collect();
        let published: Vec<_> = stream::iter(publishing).buffered(AT_ONCE).collect().await;

        let number = published.len();
        let mut outcome = Outcome::default();
        for (at, (About { request_id, route }, receipt)) in published.into_iter().enumerate() {
            let outcomes = route.map(|route| &site.outcomes[route.index]);
            match receipt {
                Ok(receipt) => {
                    outcomes.unwrap_or(&self.measures.without_route).count_receipt(receipt);
                    outcome.add_receipt(receipt, request_id.as_deref());
                }
                Err(error) => {
                    let progress = Progress { route, outcomes, body: progress.body.clone(), ..Progress::default() };
                    let reason = format!("notification {} of {number}: {}", at + 1, error.log_text());
                    let rejected = self.reject(&error, &reason, request_id.as_deref(), parts, peer, &progress);
                    outcome.add_error(&error, &rejected.request_id);
                }
            }
        }
        let is_quarantined = self.quarantine.is_some() && outcome.refused + outcome.failed > 0;
        let mut response = outcome.answer(others);
        if is_quarantined {
            response.extensions_mut().insert(Quarantined);
        }
        response
    }

    /// Makes an event of a notification, if its bucket's route takes it.
    fn admit<'s>(&self, site: &'s Site, upload: Result<Notification, NotificationError>) -> Admission<'s> {
        let notification = match upload {
            Ok(notification) => notification,
            Err(error) => return (About { request_id: None, route: None }, Err(Error::Notification(error))),
        };
        let (request_id, bucket) = (Some(notification.request_id.clone()), notification.bucket.clone());
        let route = site.routes.of_notifications(&bucket);
        let message = match route {
            Some(route) => route
                .policy
                .admit_notification(notification)
                .and_then(|admitted| Ok(admitted.into_message(self.clock.now())?)),
            None => Err(Refusal::BucketNotAllowed { bucket }),
        };
        (About { request_id, route }, message.map_err(Error::from))
    }

    async fn publish_notification<'s>(
        &self,
        verifier: &Verifier,
        (about, message): Admission<'s>,
        deadline: Deadline,
    ) -> (About<'s>, Result<Receipt, Error>) {
        let published = async {
            let message = message?;
            let _permit = self.permits.try_acquire().map_err(|_| RequestErrorKind::Overloaded)?;
            let receipt = self.publish(verifier, message, deadline, &CallbackTrace::begin(None)).await?;
            self.measures.count_accepted();
            Ok(receipt)
        };
        (about, published.await)
    }
}

impl Outcome {
    fn add_receipt(&mut self, receipt: Receipt, request_id: Option<&str>) {
        let (number, outcome) = match receipt {
            Receipt::Stored | Receipt::Spilled => (&mut self.stored, "stored"),
            Receipt::Duplicate => (&mut self.duplicates, "duplicate"),
        };
        *number += 1;
        self.uploads.push(json!({ "request_id": request_id, "outcome": outcome }));
    }

    fn add_error(&mut self, error: &Error, logged_as: &str) {
        let (kind, message) = (error.kind(), error.message());
        let told = answer::error_value(kind, &message, logged_as);
        if kind.is_passing() {
            self.failed += 1;
            self.failure.get_or_insert_with(|| (kind.status(), told));
        } else {
            self.refused += 1;
        }
        self.uploads.push(json!({ "request_id": logged_as, "outcome": kind.code(), "message": message }));
    }

    fn answer(self, others: usize) -> Response<Full<Bytes>> {
        let Self { stored, duplicates, refused, failed: failing, uploads, failure } = self;
        let mut done = json!({
            "stored": stored, "duplicates": duplicates, "refused": refused, "failed": failing, "others": others, "uploads": uploads,
        });
        match failure {
            None => answer::json(StatusCode::OK, done.to_string()),
            Some((status, error)) => {
                done["error"] = error;
                failed(answer::json(status, done.to_string()))
            }
        }
    }
}

/// How long the youngest of the uploads is still too young.
fn longest_wait(uploads: &[Admission<'_>], now: Timestamp, wait: Duration) -> Duration {
    let times = uploads.iter().filter_map(|(_, message)| message.as_ref().ok()).map(|message| message.event.time);
    times.map(|time| left_to_wait(time, now, wait)).max().unwrap_or_default()
}

/// How long an upload is still too young. Whoever is first on the bus makes the event: a callback that comes behind its
/// notification would be its duplicate, and what only it knows would be lost.
fn left_to_wait(uploaded: Timestamp, now: Timestamp, wait: Duration) -> Duration {
    let age = Duration::try_from(now.duration_since(uploaded)).unwrap_or_default();
    wait.saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_waits_until_its_callback_must_have_been_answered() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-01-01T12:00:00Z");
        let left = |uploaded| left_to_wait(at(uploaded), now, Duration::from_secs(10));
        assert_eq!(left("2026-01-01T11:59:57.500Z"), Duration::from_millis(7500));
        assert_eq!(left("2026-01-01T11:00:00Z"), Duration::ZERO);
        assert_eq!(
            left("2026-01-01T13:00:00Z"),
            Duration::from_secs(10),
            "a clock that is wrong is waited for no longer"
        );
    }
}
