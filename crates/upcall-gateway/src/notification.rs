//! OSS's event notifications, which become events as callbacks do, but for what they prove.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;
use upcall_bus::{Deadline, Receipt};
use upcall_callback::{Notification, Notifications};
use upcall_telemetry::trace::CallbackTrace;
use upcall_verifier::{Refusal, Verifier};

use crate::answer;
use crate::callback::{Progress, Shared};
use crate::error::{Error, RequestErrorKind};
use crate::function::failed;
use crate::options::FunctionOptions;
use crate::routes::BoundRoute;

impl Shared {
    /// Publishes the uploads of which an OSS trigger tells, and answers once all of them are durable. If one is not, the
    /// whole is reported as failed, and made again; what was published then is a duplicate.
    pub(crate) async fn answer_notifications<'s>(
        &'s self,
        function: &FunctionOptions,
        event: &[u8],
        parts: &Parts,
        peer: SocketAddr,
        progress: Progress<'s>,
    ) -> Response<Full<Bytes>> {
        let Ok(Notifications { uploads, others }) = Notifications::parse(event) else {
            return failed(self.refuse(RequestErrorKind::EventMalformed, parts, peer, &progress));
        };
        // A reload meanwhile changes nothing for these.
        let site = self.site.load_full();
        let mut progress: Progress<'_> = progress;
        let (mut stored, mut duplicates) = (0, 0);
        for upload in uploads {
            let bucket = upload.bucket.clone();
            progress.route = site.routes.of_notifications(&bucket);
            progress.outcomes = progress.route.map(|route| &site.outcomes[route.index]);
            let taken = match progress.route {
                Some(route) => self.take_notification(&site.verifier, route, upload, function.notification_wait).await,
                None => Err(Refusal::BucketNotAllowed { bucket }.into()),
            };
            match taken {
                Ok(receipt) => {
                    progress.outcomes.unwrap_or(&self.measures.without_route).count_receipt(receipt);
                    *(if receipt == Receipt::Duplicate { &mut duplicates } else { &mut stored }) += 1;
                }
                Err(error) => return failed(self.refuse(error, parts, peer, &progress)),
            }
        }
        let done = json!({ "stored": stored, "duplicates": duplicates, "others": others });
        answer::json(StatusCode::OK, done.to_string())
    }

    async fn take_notification(
        &self,
        verifier: &Verifier,
        route: &BoundRoute,
        notification: Notification,
        wait: Duration,
    ) -> Result<Receipt, Error> {
        let admitted = route.policy.admit_notification(notification)?;
        let message = admitted.into_message(self.clock.now()).map_err(Refusal::from)?;
        sleep(left_to_wait(message.event.time, Timestamp::now(), wait)).await;
        let _permit = self.permits.try_acquire().map_err(|_| RequestErrorKind::Overloaded)?;
        let deadline = Deadline::after(self.limits.budget);
        let receipt = self.publish(verifier, message, deadline, &CallbackTrace::begin(None)).await?;
        self.measures.count_accepted();
        Ok(receipt)
    }
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
