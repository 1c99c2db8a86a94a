//! What became of a message.

use std::time::Duration;

use http::StatusCode;
use upcall_egress::{Response, excerpt};

/// How much of what a service says goes into a reason.
const SAID_CHARS_MAX: usize = 200;
/// How long a service is left alone that says "too many" and not for how long.
pub(crate) const THROTTLED_WAIT: Duration = Duration::from_secs(60);
/// The longest that a service may ask to be left alone: one wrong header should not silence it for a year.
pub(crate) const ASKED_MAX: Duration = Duration::from_secs(60 * 60);

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is there.
    Sent,
    /// The service takes no message for a while, whichever.
    Throttled { after: Duration, reason: String },
    /// This one failed, and it is not known why. It may be this one's fault, and it may be there all the same.
    Failed { reason: String },
    /// The service takes no message at all, until something there or in the configuration changes.
    Down { reason: String },
    /// The service will never take this one.
    Refused { reason: String },
}

impl Outcome {
    pub(crate) fn throttled(after: Duration, service: &str, response: &Response) -> Self {
        Self::Throttled {
            after,
            reason: format!("{service} says that these are too many messages: {}", said(response)),
        }
    }

    pub(crate) fn failed(service: &str, response: &Response) -> Self {
        Self::Failed { reason: format!("{service} did not take the message: {}", said(response)) }
    }

    pub(crate) fn down(service: &str, response: &Response) -> Self {
        Self::Down { reason: format!("{service} takes no messages: {}", said(response)) }
    }

    pub(crate) fn refused(service: &str, response: &Response) -> Self {
        Self::Refused { reason: format!("{service} refuses the message: {}", said(response)) }
    }

    /// What a status says by itself.
    pub(crate) fn of_status(service: &str, response: &Response) -> Self {
        match response.status {
            status if status.is_success() => Self::Sent,
            StatusCode::TOO_MANY_REQUESTS => {
                Self::throttled(asked(response).unwrap_or(THROTTLED_WAIT), service, response)
            }
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => Self::refused(service, response),
            // A URL that is gone, a key that is wrong: no message will do better than this one.
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::GONE => Self::down(service, response),
            // Also what a filter on the way says of this message only, and what says nothing of whether it was taken.
            _ => Self::failed(service, response),
        }
    }

    /// What a status says by itself where nothing is known of who answers: nothing but the event's own fate. An endpoint
    /// that fails by one event must not be waited for with all.
    pub(crate) fn of_unknown(service: &str, response: &Response) -> Self {
        match Self::of_status(service, response) {
            Self::Throttled { .. } | Self::Down { .. } => Self::failed(service, response),
            outcome => outcome,
        }
    }
}

/// How long the answer's `Retry-After` asks for, within reason.
pub(crate) fn asked(response: &Response) -> Option<Duration> {
    upcall_egress::retry_after(&response.headers, std::time::SystemTime::now()).map(|wait| wait.min(ASKED_MAX))
}

/// How long an endpoint of which nothing is known wants to be left alone.
pub(crate) fn busy(response: &Response) -> Option<Duration> {
    let is_busy = matches!(response.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    asked(response).filter(|_| is_busy)
}

/// The answer's JSON; null where it is none.
pub(crate) fn json(response: &Response) -> serde_json::Value {
    serde_json::from_slice(&response.body).unwrap_or_default()
}

/// The answer in short, for a reason.
pub(crate) fn said(response: &Response) -> String {
    format!("{} {}", response.status, excerpt(&response.body, SAID_CHARS_MAX)).trim_end().to_owned()
}
