//! Refused requests: the last ones are kept in memory, and some are logged.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

/// How many refused requests are kept.
const KEPT_MAX: usize = 100;
/// The longest header value that is kept or logged, in characters.
const HEADER_CHARACTERS_MAX: usize = 128;

/// A refused request: what is needed to explain it, without its body, signature or secrets.
#[derive(Debug, Clone)]
pub(crate) struct Rejection {
    pub(crate) time: Timestamp,
    pub(crate) code: &'static str,
    pub(crate) reason: String,
    pub(crate) route: Option<String>,
    pub(crate) request_id: String,
    /// The `x-oss-bucket` header, which nobody signed.
    pub(crate) bucket_header: Option<String>,
    pub(crate) peer: SocketAddr,
    /// The id of the invocation, on Function Compute.
    pub(crate) invocation: Option<String>,
}

/// The last refused requests.
#[derive(Debug)]
pub(crate) struct Rejections {
    state: Mutex<State>,
    lines_per_second: u32,
}

#[derive(Debug)]
struct State {
    kept: VecDeque<Rejection>,
    second: Instant,
    lines: u32,
    suppressed: u64,
}

impl Rejections {
    pub(crate) fn new(lines_per_second: u32) -> Self {
        let state = State { kept: VecDeque::with_capacity(KEPT_MAX), second: Instant::now(), lines: 0, suppressed: 0 };
        Self { state: Mutex::new(state), lines_per_second }
    }

    /// Keeps a rejection in place of the oldest, and logs it unless too many were logged this second.
    /// Says whether it was logged.
    pub(crate) fn add(&self, rejection: Rejection) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let suppressed = state.may_log(Instant::now(), self.lines_per_second);
        if state.kept.len() == KEPT_MAX {
            state.kept.pop_front();
        }
        state.kept.push_back(rejection.clone());
        drop(state);
        if let Some(suppressed) = suppressed {
            tracing::warn!(
                code = rejection.code,
                route = rejection.route,
                request_id = rejection.request_id,
                bucket_header = rejection.bucket_header,
                peer = %rejection.peer,
                invocation = rejection.invocation,
                suppressed,
                "refused a request: {}",
                rejection.reason
            );
        }
        suppressed.is_some()
    }

    /// Whether a line about something else may be logged now; if so, how many were not since the last one.
    pub(crate) fn may_log(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.may_log(Instant::now(), self.lines_per_second)
    }

    /// The last rejections, newest first.
    pub(crate) fn to_json(&self) -> Value {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .kept
            .iter()
            .rev()
            .map(|rejection| {
                json!({
                    "time": rejection.time.to_string(),
                    "code": rejection.code,
                    "reason": rejection.reason,
                    "route": rejection.route,
                    "request_id": rejection.request_id,
                    "bucket_header": rejection.bucket_header,
                    "peer": rejection.peer.to_string(),
                    "invocation": rejection.invocation,
                })
            })
            .collect()
    }
}

impl State {
    /// Whether a line may be logged now; if so, how many were not since the last one.
    fn may_log(&mut self, now: Instant, lines_per_second: u32) -> Option<u64> {
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.lines = 0;
        }
        if self.lines >= lines_per_second {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// A header's value as it may be kept and logged: printable, and not long.
pub(crate) fn printable(value: &str) -> String {
    value.chars().filter(|character| character.is_ascii_graphic()).take(HEADER_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_writes_few_lines_and_says_how_many_it_left_out() {
        let rejections = Rejections::new(2);
        let mut state = rejections.state.into_inner().unwrap();
        let begin = state.second;
        let logged = |state: &mut State, ms| state.may_log(begin + Duration::from_millis(ms), 2);
        assert_eq!([0, 1, 2, 999].map(|ms| logged(&mut state, ms)), [Some(0), Some(0), None, None]);
        assert_eq!([1000, 1001, 1002].map(|ms| logged(&mut state, ms)), [Some(2), Some(0), None]);
    }

    #[test]
    fn the_last_hundred_are_kept() {
        let rejections = Rejections::new(0);
        for number in 0..150 {
            rejections.add(Rejection {
                time: Timestamp::UNIX_EPOCH,
                code: "signature_mismatch",
                reason: String::new(),
                route: None,
                request_id: number.to_string(),
                bucket_header: None,
                peer: "127.0.0.1:1".parse().unwrap(),
                invocation: None,
            });
        }
        let json = rejections.to_json();
        assert_eq!(json.as_array().unwrap().len(), 100);
        assert_eq!((&json[0]["request_id"], &json[99]["request_id"]), (&json!("149"), &json!("50")));
    }

    #[test]
    fn header_values_can_neither_break_a_line_nor_flood_it() {
        assert_eq!(printable("a\r\nb c\u{1b}[31m\u{202e}"), "abc[31m");
        assert_eq!(printable(&"x".repeat(1000)).len(), 128);
    }
}
