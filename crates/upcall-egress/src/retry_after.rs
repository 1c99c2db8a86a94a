//! How long a server asks to be left alone.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The longest time that is believed; a number beyond it is this long.
const MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What `Retry-After` asks for, in seconds or as a date. A date that has passed is no time at all. `None` where there is
/// no such header, or one that can't be read.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(MAX, |seconds| Duration::from_secs(seconds).min(MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(value: &str, expected: Option<u64>) {
        let now = httpdate::parse_http_date("Thu, 01 Jan 2026 00:00:00 GMT").unwrap();
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
        assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value:?}");
    }

    #[test]
    fn it_is_a_number_of_seconds_or_a_date() {
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("99999999999999999999999", Some(MAX.as_secs()));
        check("Thu, 01 Jan 2026 00:01:30 GMT", Some(90));
        check("Thursday, 01-Jan-26 00:01:30 GMT", Some(90));
        check("Thu Jan  1 00:01:30 2026", Some(90));
        check("Wed, 31 Dec 2025 23:59:59 GMT", Some(0));
        for strange in ["", "soon", "-1", "1.5", "+3", "Thu, 32 Jan 2026 00:00:00 GMT"] {
            check(strange, None);
        }
        assert_eq!(retry_after(&HeaderMap::new(), SystemTime::now()), None);
    }
}
