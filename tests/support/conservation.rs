//! Nothing vanishes: what a gateway has accepted is what was published, spilled, or known already. Checked before a gateway
//! is ended.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::http::get;

/// How long a callback that is still being answered may take to be counted.
const REST: Duration = Duration::from_secs(10);

/// What a gateway has said of itself at its start, to be compared with what it says at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Books {
    /// How far its journal was, if it has one.
    sequence: Option<f64>,
}

impl Books {
    /// Reads them at a start.
    ///
    /// # Errors
    /// If the gateway does not answer.
    pub fn open(admin: SocketAddr) -> std::io::Result<Self> {
        let page = get(admin, "/metrics")?.text();
        Ok(Self { sequence: value(&page, "upcall_journal_sequence") })
    }

    /// Compares. What is still being answered is waited for.
    ///
    /// # Errors
    /// With what does not balance, or if the gateway does not answer.
    pub fn check(self, admin: SocketAddr) -> Result<(), String> {
        let end = Instant::now() + REST;
        loop {
            let page = get(admin, "/metrics").map_err(|error| error.to_string())?.text();
            match self.imbalance(&page) {
                Some(wrong) if Instant::now() > end => return Err(format!("{wrong}\n{page}")),
                Some(_) => std::thread::sleep(Duration::from_millis(20)),
                None => return Ok(()),
            }
        }
    }

    fn imbalance(self, page: &str) -> Option<String> {
        // Who takes no callbacks has no such figures.
        let accepted = value(page, "upcall_accepted_callbacks_total")?;
        let publishes = |outcome: &str| sum(page, "upcall_publishes_total", &[("outcome", outcome)]);
        let [published, spilled, duplicate] = ["published", "spilled", "duplicate"].map(publishes);
        let answered = |outcome: &str| sum(page, "upcall_callbacks_total", &[("outcome", outcome)]);
        let answered = answered("accepted") + answered("duplicate");
        // Where a service is asked for the answer, an event can be durable and its callback fail.
        let asks = page.contains("upcall_service_questions_total{");
        let is_counted = |expected: f64, found: f64| expected.total_cmp(&found).is_eq();
        let first = [
            (is_counted(published + spilled + duplicate, accepted), "accepted is published, spilled and duplicate"),
            (answered <= accepted, "what was answered 200 was accepted"),
            (asks || is_counted(answered, accepted), "what was accepted was answered 200"),
            (
                value(page, "upcall_spilled_events_total").is_none_or(|journal| is_counted(spilled, journal)),
                "the journal counts what was spilled into it",
            ),
        ];
        let kept = |before: f64| {
            // With a place to spill to, only that goes to the journal.
            let expected = if page.contains("upcall_spilled_events_total ") { spilled } else { published };
            value(page, "upcall_journal_sequence").is_none_or(|now| now - before >= expected)
        };
        let last = (self.sequence.is_none_or(kept), "the journal has what was published there");
        let wrong = first.into_iter().chain([last]).find(|(holds, _)| !holds);
        wrong.map(|(_, what)| format!("does not hold: {what}"))
    }
}

/// The value of a series without labels.
pub fn value(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// The sum of the series of this name that have these labels.
pub fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let series = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
    let has = |found: &str| labels.iter().all(|(label, value)| found.contains(&format!("{label}=\"{value}\"")));
    series.filter(|(found, _)| has(found)).filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALANCED: &str = "upcall_accepted_callbacks_total 4\n\
        upcall_publishes_total{outcome=\"published\"} 1\nupcall_publishes_total{outcome=\"spilled\"} 2\n\
        upcall_publishes_total{outcome=\"duplicate\"} 1\nupcall_publishes_total{outcome=\"bus_full\"} 9\n\
        upcall_callbacks_total{route=\"a\",outcome=\"accepted\"} 3\nupcall_callbacks_total{route=\"b\",outcome=\"duplicate\"} 1\n\
        upcall_spilled_events_total 2\nupcall_journal_sequence 9\n";

    #[test]
    fn an_event_too_few_or_too_many_is_found() {
        let books = Books { sequence: Some(7.0) };
        assert_eq!(books.imbalance(BALANCED), None);
        assert_eq!(books.imbalance("upcall_consumer_ready{consumer=\"c\"} 1\n"), None);
        for (from, to) in [
            ("upcall_accepted_callbacks_total 4", "upcall_accepted_callbacks_total 5"),
            ("\"spilled\"} 2", "\"spilled\"} 1"),
            ("\"accepted\"} 3", "\"accepted\"} 2"),
            ("spilled_events_total 2", "spilled_events_total 3"),
            ("sequence 9", "sequence 8"),
        ] {
            assert!(BALANCED.contains(from));
            assert!(books.imbalance(&BALANCED.replace(from, to)).is_some(), "{to}");
        }
    }
}
