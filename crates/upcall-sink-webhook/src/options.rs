//! How a webhook is called.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use http::HeaderMap;
use upcall_egress::{BreakerOptions, ClientOptions, Endpoint, Rate};

use crate::{Format, Secret};

/// How long an event waits after each failure. Source: Standard Webhooks 1.0.0, "Deliverability and reliability".
const RETRY_SECONDS: [u64; 9] = [5, 5 * 60, 30 * 60, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
const HOUR: u64 = 60 * 60;
/// The largest part of a wait that is taken away, so that those who failed together do not come back together.
const JITTER: f64 = 0.1;

/// How a webhook is called.
#[derive(Clone)]
pub struct Options {
    /// Where.
    pub endpoint: Endpoint,
    /// What the body is.
    pub format: Format,
    /// What requests are signed with: each signs every request.
    pub secrets: Vec<Secret>,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Which addresses may be called, and how long that may take.
    pub client: ClientOptions,
    /// The most requests under way at once.
    pub concurrency: NonZeroUsize,
    /// The most requests in a time.
    pub rate: Option<Rate>,
    /// How long an event waits after each failure. After one more it is a dead letter.
    pub retry: Vec<Duration>,
    /// Which answers make an event a dead letter at once.
    pub refusals: Vec<Status>,
    /// When the endpoint is left alone, and for how long.
    pub breaker: BreakerOptions,
    /// How long the consumer gives a batch. What could not be begun in time goes back.
    pub batch_time: Duration,
}

/// A status that can say that an event will never be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(u16);

/// A status that can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is about the endpoint and not about the event; take statuses from 400 to 499, but 401, 403 to 405, 407, 408, 410 and 429"
)]
pub struct InvalidStatus(pub i64);

impl Options {
    /// Structured CloudEvents, 16 at once, retried as Standard Webhooks recommends; 413, 415 and 422 are final.
    #[must_use]
    pub fn new(endpoint: Endpoint, secrets: Vec<Secret>) -> Self {
        const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");
        Self {
            endpoint,
            format: Format::default(),
            secrets,
            headers: HeaderMap::new(),
            client: ClientOptions::default(),
            concurrency: CONCURRENCY,
            rate: None,
            retry: RETRY_SECONDS.map(Duration::from_secs).to_vec(),
            refusals: [413, 415, 422].map(Status).to_vec(),
            breaker: BreakerOptions { open_max: Duration::from_secs(60), ..BreakerOptions::default() },
            batch_time: Duration::from_secs(60),
        }
    }
}

impl Status {
    /// Takes a status that is about the event.
    ///
    /// # Errors
    /// If it says something about the endpoint.
    pub fn new(status: i64) -> Result<Self, InvalidStatus> {
        match u16::try_from(status) {
            Ok(status) if (400..500).contains(&status) && !is_about_endpoint(status) => Ok(Self(status)),
            _ => Err(InvalidStatus(status)),
        }
    }

    /// The number.
    #[must_use]
    pub fn as_u16(self) -> u16 {
        self.0
    }
}

/// Whether a status says that the endpoint does not work, rather than that it does not take this event.
pub(crate) fn is_about_endpoint(status: u16) -> bool {
    !(400..500).contains(&status) || matches!(status, 401 | 403..=405 | 407 | 408 | 410 | 429)
}

/// How long an event waits after an attempt that failed, from 1; `None` if it was the last. `spread` is from 0 to 1.
#[must_use]
pub fn wait_after(retry: &[Duration], attempt: u32, spread: f64) -> Option<Duration> {
    let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    retry.get(place).map(|wait| wait.mul_f64(1.0 - JITTER * spread.clamp(0.0, 1.0)))
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoint", &self.endpoint)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_schedule_is_the_one_of_standard_webhooks() {
        let retry = Options::new("http://a".parse().unwrap(), Vec::new()).retry;
        let since: Vec<u64> = retry
            .iter()
            .scan(0, |sum, wait| {
                *sum += wait.as_secs();
                Some(*sum)
            })
            .collect();
        let documented = [(0, 5), (5, 5), (35, 5), (155, 5), (455, 5), (1055, 5), (1895, 5), (3095, 5), (4535, 5)];
        assert_eq!(since, documented.map(|(minutes, seconds)| minutes * 60 + seconds));
    }

    proptest! {
        #[test]
        fn each_attempt_but_the_last_has_its_wait(waits in proptest::collection::vec(0_u64..100_000, 0..20), attempt in 1_u32..30, spread in 0.0..=1.0_f64) {
            let retry: Vec<Duration> = waits.iter().copied().map(Duration::from_secs).collect();
            match wait_after(&retry, attempt, spread) {
                None => prop_assert!(attempt as usize > retry.len()),
                Some(wait) => {
                    let full = retry[attempt as usize - 1];
                    prop_assert!(wait <= full && wait >= full.mul_f64(0.899));
                }
            }
        }
    }

    #[test]
    fn only_a_status_about_the_event_can_be_final() {
        for status in [400, 402, 406, 409, 411, 413, 422, 499] {
            assert_eq!(Status::new(status).unwrap().as_u16(), u16::try_from(status).unwrap());
        }
        for status in [-1, 0, 200, 301, 401, 403, 404, 408, 410, 429, 500, 503, 70_000] {
            assert_eq!(Status::new(status), Err(InvalidStatus(status)));
        }
    }
}
