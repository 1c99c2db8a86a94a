//! The server, the account, and what is answered 200 before it is on a disk.

use std::time::Duration;

use async_nats::jetstream::account::{Account, Limits};
use jiff::Timestamp;
use serde_json::Value;
use upcall_bus::ArchiveError;

use super::monitor::Monitored;
use super::{Finding, Questions, kinds};
use crate::NatsBus;
use crate::off::Off;

/// What Upcall is tested with, at least.
const VERSION_MIN: (i64, i64) = (2, 12);
/// How far clocks may differ. Machines that keep time by NTP differ by milliseconds.
const CLOCK_OFF_MAX: Duration = Duration::from_secs(2);
/// What the server does when `sync_interval` is not set. Source: NATS documentation, JetStream configuration.
const SYNC_INTERVAL_DEFAULT: Duration = Duration::from_secs(120);
/// An event is a callback's body and about 1 KB; bodies of OSS callbacks are a few KB.
pub(super) const PAYLOAD_BYTES_MIN: usize = 64 << 10;
/// From how full on it is worth a word.
const NEARLY_FULL_PERCENT: u64 = 80;
const FULL_PERCENT: u64 = 95;

impl NatsBus {
    /// Returns whether there is a JetStream to go on with.
    pub(super) async fn examine_server(
        &self,
        questions: &Questions,
        monitored: &Result<Monitored, String>,
        found: &mut Vec<Finding>,
    ) -> Result<bool, ArchiveError> {
        let client = self.client();
        let (info, name) = (client.server_info(), self.server_name());
        if !client.is_server_compatible(VERSION_MIN.0, VERSION_MIN.1, 0) {
            found.push(kinds::SERVER_OLD.found(format!("server {name} is {}", info.version)));
        }
        let account = match self.shared.context.query_account().await {
            Ok(account) => account,
            Err(error) => match Off::of_account(&error) {
                Some(off) => {
                    found.push(kinds::NO_JETSTREAM.found(self.says_off(off)));
                    return Ok(false);
                }
                None => return Err(ArchiveError::new(error)),
            },
        };
        if info.cluster.is_none() {
            found.push(kinds::ONE_SERVER.found(format!("server {name} is alone")));
        }
        if info.max_payload < PAYLOAD_BYTES_MIN {
            let what = format!("server {name} takes messages of up to {} bytes", info.max_payload);
            found.push(kinds::PAYLOAD_SMALL.found(what));
        }
        sync(questions, monitored, found);
        if let Ok(Monitored { storage: Some((used, max)), .. }) = monitored {
            fill("the server's storage", *used, *max, found);
        }
        account_storage(&account, found);
        Ok(true)
    }

    /// Compares clocks, by a moment that the server has put into an answer.
    pub(super) async fn examine_clock(
        &self,
        questions: &Questions,
        found: &mut Vec<Finding>,
    ) -> Result<(), ArchiveError> {
        let asked = (questions.clock)();
        let subject = format!("STREAM.INFO.{}", self.names().uploads());
        let answer: Value = self.shared.context.request(subject, &()).await.map_err(ArchiveError::new)?;
        let answered = (questions.clock)();
        let server = answer["ts"].as_str().and_then(|moment| moment.parse::<Timestamp>().ok());
        if let Some((off, direction)) = server.and_then(|server| difference(server, asked, answered)) {
            let seconds = off.as_secs_f64();
            found.push(kinds::CLOCK_OFF.found(format!("the server's clock is {seconds:.1} s {direction} ours")));
        }
        Ok(())
    }
}

/// How far the server's clock is off, if it is too far. It was read between two readings of ours.
fn difference(server: Timestamp, asked: Timestamp, answered: Timestamp) -> Option<(Duration, &'static str)> {
    let behind = Duration::try_from(asked.duration_since(server)).ok().map(|off| (off, "behind"));
    let ahead = Duration::try_from(server.duration_since(answered)).ok().map(|off| (off, "ahead of"));
    behind.or(ahead).filter(|(off, _)| *off > CLOCK_OFF_MAX)
}

fn sync(questions: &Questions, monitored: &Result<Monitored, String>, found: &mut Vec<Finding>) {
    let seen = monitored.as_ref().ok().and_then(|monitored| monitored.sync_interval);
    let interval = seen.unwrap_or(SYNC_INTERVAL_DEFAULT);
    match (questions.journal_hold, seen) {
        (Some(hold), _) if interval > Duration::ZERO && hold <= 2 * interval => {
            let known = if seen.is_some() { "" } else { ", as it does by default" };
            let what =
                format!("the journal keeps an event for {hold:?}, and the server syncs within {interval:?}{known}");
            found.push(kinds::SYNC_HOLD_SHORT.found(what));
        }
        (Some(_), _) | (None, Some(Duration::ZERO)) => {}
        (None, Some(interval)) => {
            let what = format!("the server syncs up to {interval:?} after it has acknowledged an event");
            found.push(kinds::SYNC_INTERVAL.found(what));
        }
        (None, None) => {
            let why = monitored.as_ref().err().map_or("the server does not tell", String::as_str);
            found.push(kinds::SYNC_INTERVAL_UNSEEN.found(format!("`sync_interval` can't be seen: {why}")));
        }
    }
}

fn account_storage(account: &Account, found: &mut Vec<Finding>) {
    let mut check = |what: &str, used: u64, limits: &Limits| {
        if let Some(max) = limits.max_storage.and_then(|max| u64::try_from(max).ok()) {
            fill(what, used, max, found);
        }
    };
    check("the account's storage", account.storage, &account.limits);
    for (tier, state) in &account.tiers {
        check(&format!("the account's storage of tier {tier}"), state.storage, &state.limits);
    }
}

/// Says how full something is, if it is worth a word. Without a limit, or with one of nothing, it is not.
pub(super) fn fill(what: &str, used: u64, max: u64, found: &mut Vec<Finding>) {
    let Some(percent) = used.saturating_mul(100).checked_div(max) else { return };
    let kind = match percent {
        FULL_PERCENT.. => &kinds::FULL,
        NEARLY_FULL_PERCENT.. => &kinds::NEARLY_FULL,
        _ => return,
    };
    found.push(kind.found(format!("{what} is {percent} % full: {used} of {max}")));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::difference;

    #[test]
    fn a_slow_answer_is_no_wrong_clock() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(difference(at(105), at(100), at(110)), None, "read while we waited");
        assert_eq!(difference(at(98), at(100), at(110)), None, "within what is allowed");
        assert_eq!(difference(at(97), at(100), at(110)), Some((Duration::from_secs(3), "behind")));
        assert_eq!(difference(at(170), at(100), at(110)), Some((Duration::from_secs(60), "ahead of")));
    }
}
