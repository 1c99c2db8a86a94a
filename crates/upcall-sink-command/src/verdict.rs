//! From how a program ended to what became of the event.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use upcall_consumer::Verdict;

/// `EX_DATAERR` of `sysexits.h`: the event is not what the program takes, and never will be.
const DATA_ERROR: i32 = 65;
/// `EX_UNAVAILABLE`: what the program works with is out of order, whatever the event.
const UNAVAILABLE: i32 = 69;
/// What mail systems' programs say of a failure that is permanent.
const PERMANENT: i32 = 100;

/// What a program that ended of itself says of the event. The reason is the end of its standard error.
pub(crate) fn of_status(status: ExitStatus, said: &str) -> Verdict {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit status".to_owned(),
    };
    match status.code() {
        Some(0) => Verdict::Done,
        Some(DATA_ERROR | PERMANENT) => Verdict::Dead { reason: reason(&how, said) },
        Some(UNAVAILABLE) => Verdict::Unavailable { reason: reason(&how, said) },
        _ => Verdict::Retry { after: None, reason: reason(&how, said) },
    }
}

/// A reason: how the program ended, and what it said of that.
pub(crate) fn reason(how: &str, said: &str) -> String {
    if said.is_empty() { how.to_owned() } else { format!("{how}: {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_status_is_a_verdict() {
        let verdict = |code: i32| of_status(ExitStatus::from_raw(code << 8), "why");
        assert_eq!(verdict(0), Verdict::Done);
        for code in [65, 100] {
            assert_eq!(verdict(code), Verdict::Dead { reason: format!("exit status {code}: why") });
        }
        assert_eq!(verdict(69), Verdict::Unavailable { reason: "exit status 69: why".into() });
        for code in [1, 2, 64, 75, 126, 127, 255] {
            assert_eq!(verdict(code), Verdict::Retry { after: None, reason: format!("exit status {code}: why") });
        }
        let killed = of_status(ExitStatus::from_raw(9), "");
        assert_eq!(killed, Verdict::Retry { after: None, reason: "signal 9".into() });
    }
}
