//! Wall-clock time, as the tables hold it: milliseconds since 1970.

use std::time::Duration;

use jiff::Timestamp;

/// Now.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// This long from now; the end of time if that is later.
pub(crate) fn after_ms(wait: Duration) -> i64 {
    // Rounded up: a delay is never shorter than what was asked for.
    let wait = i64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
    now_ms().saturating_add(wait)
}

/// How long ago a moment was; zero if it is to come.
pub(crate) fn since(moment_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(now_ms().saturating_sub(moment_ms)).unwrap_or(0))
}

/// How long it is until a moment; zero if it has passed.
pub(crate) fn until(moment_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(moment_ms.saturating_sub(now_ms())).unwrap_or(0))
}
