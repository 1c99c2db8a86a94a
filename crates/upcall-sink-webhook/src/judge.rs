//! What an answer, or none, comes to: for the event, and for the endpoint.

use std::time::{Duration, SystemTime};

use upcall_consumer::Verdict;
use upcall_egress::{Error, Response, excerpt, retry_after};
use upcall_event::EventId;
use upcall_telemetry::error_chain;

use crate::Options;
use crate::options::{is_about_endpoint, wait_after};

/// The most of an answer's body that goes with a dead letter.
const EXCERPT_CHARS: usize = 200;
/// The longest that an endpoint may ask to be left alone: one wrong header should not stop it for a year.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// What becomes of an endpoint that is gone.
pub(crate) const GONE: &str = "The endpoint is disabled, and its events wait, until this consumer is changed in the \
     configuration (any change, with a reload), or Upcall is restarted";

/// What an attempt comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) endpoint: Condition,
}

/// What an attempt says about the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It works.
    Works,
    /// It failed in a way that may be this event's fault, or its own.
    Fails,
    /// It can't be reached, whatever the event.
    Unreachable,
    /// It wants to be left alone for so long.
    Busy(Duration),
    /// It is there no more.
    Gone,
}

/// Judges what one attempt with an event brought.
pub(crate) fn judge(
    options: &Options,
    (event, attempt): (EventId, u32),
    posted: &Result<Response, Error>,
    now: SystemTime,
) -> Judgement {
    let response = match posted {
        Ok(response) => response,
        Err(error) if error.kind.is_unsent() => {
            let verdict = Verdict::Unavailable { reason: error_chain(error) };
            return Judgement { verdict, endpoint: Condition::Unreachable };
        }
        Err(error) => {
            let verdict = again(options, (event, attempt), None, error_chain(error));
            return Judgement { verdict, endpoint: Condition::Fails };
        }
    };
    let status = response.status.as_u16();
    if response.status.is_success() {
        return Judgement { verdict: Verdict::Done, endpoint: Condition::Works };
    }
    let reason = reason(response);
    let asked = retry_after(&response.headers, now).map(|wait| wait.min(RETRY_AFTER_MAX));
    let endpoint = match status {
        410 => {
            let reason = format!("{reason}. {GONE}");
            return Judgement { verdict: Verdict::Unavailable { reason }, endpoint: Condition::Gone };
        }
        429 | 503 => asked.map_or(Condition::Fails, Condition::Busy),
        _ if is_about_endpoint(status) => Condition::Fails,
        _ => Condition::Works,
    };
    let verdict = if options.refusals.iter().any(|refusal| refusal.as_u16() == status) {
        Verdict::Dead { reason }
    } else {
        again(options, (event, attempt), asked, reason)
    };
    Judgement { verdict, endpoint }
}

/// The event is tried again when its schedule says, and not before the endpoint wants to; unless it was the last time.
fn again(options: &Options, (event, attempt): (EventId, u32), asked: Option<Duration>, reason: String) -> Verdict {
    // An id is a hash, so that its last byte is as good as chance.
    let spread = f64::from(event.as_bytes()[15]) / f64::from(u8::MAX);
    match wait_after(&options.retry, attempt, spread) {
        Some(wait) => Verdict::Retry { after: Some(wait.max(asked.unwrap_or_default())), reason },
        None => Verdict::Dead { reason },
    }
}

fn reason(response: &Response) -> String {
    let body = excerpt(&response.body, EXCERPT_CHARS);
    let said = if body.is_empty() { String::new() } else { format!(": {body}") };
    format!("the endpoint answered with status {}{said}", response.status)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::Status;

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Result<Response, Error> {
        let headers = retry_after.map(|value| (http::header::RETRY_AFTER, value.parse().unwrap()));
        Ok(Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter(headers),
            body: Bytes::copy_from_slice(body.as_bytes()),
            is_whole: true,
        })
    }

    fn judged(attempt: u32, status: u16, retry_after: Option<&str>) -> Judgement {
        let mut options = Options::new("http://a".parse().unwrap(), Vec::new());
        options.retry = vec![Duration::from_secs(5), Duration::from_secs(300)];
        options.refusals.push(Status::new(400).unwrap());
        // No jitter.
        let event = EventId::from_bytes([0; 16]);
        judge(&options, (event, attempt), &answer(status, retry_after, ""), SystemTime::UNIX_EPOCH)
    }

    #[track_caller]
    fn assert_waits(judgement: &Judgement, seconds: u64) {
        assert!(
            matches!(judgement.verdict, Verdict::Retry { after: Some(after), .. } if after.as_secs() == seconds),
            "{judgement:?}"
        );
    }

    #[test]
    fn only_a_2xx_is_a_success_and_every_other_answer_counts_for_its_event() {
        for status in (100..600).filter(|status| *status != 410) {
            let judgement = judged(1, status, None);
            match status {
                200..300 => assert_eq!(judgement.verdict, Verdict::Done, "{status}"),
                400 | 413 | 415 | 422 => assert!(matches!(judgement.verdict, Verdict::Dead { .. }), "{status}"),
                _ => assert_waits(&judgement, 5),
            }
            let expected = match status {
                200..300 => Condition::Works,
                401 | 403..=405 | 407 | 408 | 429 => Condition::Fails,
                400..500 => Condition::Works,
                _ => Condition::Fails,
            };
            assert_eq!(judgement.endpoint, expected, "{status}");
        }
    }

    #[test]
    fn an_event_is_dead_when_its_schedule_is_used_up() {
        assert_waits(&judged(1, 500, None), 5);
        assert_waits(&judged(2, 500, None), 300);
        for attempt in [3, 4, u32::MAX] {
            assert!(matches!(judged(attempt, 500, None).verdict, Verdict::Dead { .. }));
        }
    }

    #[test]
    fn an_endpoint_that_asks_for_time_gets_it_within_reason() {
        for (status, asked, waits, condition) in [
            (429, "60", 60, Condition::Busy(Duration::from_secs(60))),
            (503, "Thu, 01 Jan 1970 00:02:00 GMT", 120, Condition::Busy(Duration::from_secs(120))),
            (429, "99999999", 3600, Condition::Busy(RETRY_AFTER_MAX)),
            (429, "1", 5, Condition::Busy(Duration::from_secs(1))),
            (503, "soon", 5, Condition::Fails),
            (500, "60", 60, Condition::Fails),
            (404, "60", 60, Condition::Fails),
        ] {
            let judgement = judged(1, status, Some(asked));
            assert_waits(&judgement, waits);
            assert_eq!(judgement.endpoint, condition, "{status} {asked}");
        }
        // In the end it is a dead letter all the same.
        assert!(matches!(judged(3, 429, Some("60")).verdict, Verdict::Dead { .. }));
    }

    #[test]
    fn an_endpoint_that_is_gone_costs_no_event_an_attempt() {
        let judgement = judged(10, 410, None);
        assert_eq!(judgement.endpoint, Condition::Gone);
        assert!(matches!(judgement.verdict, Verdict::Unavailable { .. }));
    }

    #[test]
    fn a_reason_has_the_status_and_a_short_line_of_the_body() {
        let long = format!("no\r\nsuch \x1b[31mtenant {}", "x".repeat(10_000));
        let reason = reason(&answer(500, None, &long).unwrap());
        assert!(
            reason.starts_with("the endpoint answered with status 500 Internal Server Error: no such [31mtenant x")
        );
        assert!(reason.chars().count() < 300 && reason.ends_with('…'), "{reason}");
    }
}
