//! From verdicts to settlements, and how those reach the bus.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tracing::Instrument;
use upcall_bus::{Delivery, SettleError, SettleErrorKind, Settlement};
use upcall_telemetry::trace;

use crate::stats::Count;
use crate::{Backoff, Options, Stats, Verdict};

/// The longest that a target may ask to be left alone about one event: an event waits, it is not forgotten.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The most bytes of a reason that go with a dead letter: it is for people, and some targets answer with pages.
const REASON_BYTES_MAX: usize = 1024;
/// How long a settlement is offered to a bus that does not take it. Then the bus delivers the event again. An ack is
/// offered for as long as it takes: what is done is not done again because the bus is away.
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait between two such offers.
const SETTLE_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(50), max: Duration::from_secs(2), factor: 2.0, jitter: 0.5 };

/// The settlement that a verdict comes to, given the number of the attempt that it judges.
pub(crate) fn decide(verdict: Verdict, attempt: u32, options: &Options, chance: f64) -> Settlement {
    match verdict {
        Verdict::Done => Settlement::Ack,
        Verdict::Dead { reason } => Settlement::DeadLetter { reason: shortened(reason) },
        Verdict::Unavailable { .. } => Settlement::HandBack,
        Verdict::Retry { reason, .. } if is_last(attempt, options) => {
            Settlement::DeadLetter { reason: shortened(reason) }
        }
        Verdict::Retry { after, reason } => {
            let after = after.unwrap_or_else(|| options.backoff.delay(attempt, chance)).min(RETRY_AFTER_MAX);
            Settlement::Retry { after, reason: shortened(reason) }
        }
    }
}

/// Whether no attempt is left after this one.
pub(crate) fn is_last(attempt: u32, options: &Options) -> bool {
    options.attempts_max.is_some_and(|max| attempt >= max.get())
}

/// Whether the bus takes what became of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There was nothing to tell.
    Nothing,
    /// It took everything that it was told.
    All,
    /// It did not, and why. It delivers those events again.
    No(String),
}

impl Taken {
    /// Both together: what was not taken weighs most.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No(reason), _) | (_, Self::No(reason)) => Self::No(reason),
            (Self::Nothing, Self::Nothing) => Self::Nothing,
            _ => Self::All,
        }
    }
}

/// Makes settlements known to the bus, all at once, so that the bus can write them together.
pub(crate) async fn settle_all(mut deliveries: Vec<(Delivery, Settlement)>, consumer: &str, stats: &Stats) -> Taken {
    for (delivery, settlement) in &mut deliveries {
        delivery.announce(settlement);
    }
    let settle = |(delivery, settlement): (Delivery, Settlement)| {
        let span = delivery.span().clone();
        settle(delivery, settlement, Count::Done, consumer, stats).instrument(span)
    };
    summed(join_all(deliveries.into_iter().map(settle)).await, consumer)
}

/// Settles deliveries that the sink is not to see, as done.
pub(crate) async fn skip_all(mut deliveries: Vec<Delivery>, consumer: &str, stats: &Stats) -> Taken {
    for delivery in &mut deliveries {
        delivery.announce(&Settlement::Ack);
    }
    let skip = |delivery| settle(delivery, Settlement::Ack, Count::Skipped, consumer, stats);
    summed(join_all(deliveries.into_iter().map(skip)).await, consumer)
}

/// Gives deliveries back to the bus, uncounted.
pub(crate) async fn hand_back_all(deliveries: Vec<Delivery>, consumer: &str, stats: &Stats) {
    let settled = deliveries.into_iter().map(|delivery| (delivery, Settlement::HandBack)).collect();
    // They come again in either case.
    let _ = settle_all(settled, consumer, stats).await;
}

/// Says once what many events may have met.
fn summed(outcomes: Vec<Result<(), SettleError>>, consumer: &str) -> Taken {
    let mut taken = if outcomes.is_empty() { Taken::Nothing } else { Taken::All };
    for kind in [SettleErrorKind::Unavailable, SettleErrorKind::Lost] {
        let mut errors =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).filter(|error| error.kind == kind);
        let Some(first) = errors.next() else { continue };
        let (events, reason) = (1 + errors.count(), upcall_telemetry::error_chain(first));
        tracing::warn!(consumer, events, reason, "the bus did not take what became of events: it delivers them again");
        if kind == SettleErrorKind::Unavailable {
            taken = Taken::No(reason);
        }
    }
    taken
}

async fn settle(
    mut delivery: Delivery,
    settlement: Settlement,
    acked_as: Count,
    consumer: &str,
    stats: &Stats,
) -> Result<(), SettleError> {
    let (event, attempt, started) = (delivery.event().id, delivery.attempt(), Instant::now());
    let upload = match &settlement {
        Settlement::DeadLetter { .. } | Settlement::Retry { .. } => Upload::of(&delivery),
        Settlement::Ack | Settlement::HandBack => Upload::default(),
    };
    trace::ended(delivery.span(), "upcall.outcome", outcome(&settlement), settlement != Settlement::Ack);
    let (mut failures, mut late) = (0, None);
    while let Err((unsettled, error)) = delivery.settle(settlement.clone()).await {
        failures += 1;
        let is_late = started.elapsed() >= SETTLE_PATIENCE;
        if error.kind == SettleErrorKind::Lost || is_late && settlement != Settlement::Ack {
            stats.failed(&upcall_telemetry::error_chain(&error));
            stats.count(Count::Unsettled, 1);
            return Err(error);
        }
        if is_late && late.is_none() {
            let reason = upcall_telemetry::error_chain(&error);
            let request_id = unsettled.event().data.request_id.as_deref();
            if !stats.is_late() {
                tracing::warn!(consumer, %event, request_id, reason, "an event is done, and the bus does not take that: it is told until it does");
            }
            late = Some(stats.late(&reason));
        }
        delivery = unsettled;
        sleep(SETTLE_BACKOFF.draw(failures)).await;
    }
    match settlement {
        Settlement::Ack => {
            stats.count(acked_as, 1);
            if attempt > 1 {
                stats.retries_no_more(&event);
            }
        }
        Settlement::HandBack => stats.count(Count::HandedBack, 1),
        Settlement::Retry { after, reason } => {
            stats.count(Count::Retried, 1);
            if let Some(others) = stats.retries(event, after, &reason) {
                let Upload { request_id, object } = upload;
                let again_in_s = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                tracing::warn!(
                    consumer,
                    %event,
                    request_id,
                    object,
                    attempt,
                    reason,
                    again_in_s,
                    others,
                    "an event has failed, and is tried again; `others` have failed since this was last said"
                );
            }
        }
        Settlement::DeadLetter { reason } => {
            stats.failed(&reason);
            stats.count(Count::Dead, 1);
            stats.retries_no_more(&event);
            let Upload { request_id, object } = upload;
            tracing::warn!(consumer, %event, request_id, object, attempt, reason, "dead letter: the sink can't take this event");
        }
    }
    Ok(())
}

/// What a line says of an event's upload.
#[derive(Default)]
struct Upload {
    request_id: Option<String>,
    object: String,
}

impl Upload {
    fn of(delivery: &Delivery) -> Self {
        let upload = &delivery.event().data;
        Self { request_id: upload.request_id.clone(), object: upload.object.clone() }
    }
}

fn outcome(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Ack => "done",
        Settlement::Retry { .. } => "retried",
        Settlement::DeadLetter { .. } => "dead",
        Settlement::HandBack => "handed_back",
    }
}

fn shortened(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use upcall_bus::{ConsumerSpec, Start};

    use super::*;

    fn options(attempts_max: u32) -> Options {
        let spec = ConsumerSpec { name: "c".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
        Options { attempts_max: NonZeroU32::new(attempts_max), ..Options::new(spec) }
    }

    proptest! {
        #[test]
        fn a_failure_waits_as_asked_or_as_the_backoff_says_until_the_attempts_are_used_up(
            attempt in 1_u32..30, attempts_max in 0_u32..20, after in proptest::option::of(0_u64..200_000), chance in 0.0..=1.0_f64
        ) {
            let options = options(attempts_max);
            let after = after.map(Duration::from_secs);
            let settlement = decide(Verdict::Retry { after, reason: "no".into() }, attempt, &options, chance);
            if attempts_max > 0 && attempt >= attempts_max {
                prop_assert_eq!(settlement, Settlement::DeadLetter { reason: "no".into() });
            } else {
                let wait = after.map_or(options.backoff.delay(attempt, chance), |after| after.min(RETRY_AFTER_MAX));
                prop_assert_eq!(settlement, Settlement::Retry { after: wait, reason: "no".into() });
            }
        }
    }

    #[test]
    fn an_outage_is_never_held_against_an_event() {
        let verdict = Verdict::Unavailable { reason: "down".into() };
        assert_eq!(decide(verdict, u32::MAX, &options(1), 0.0), Settlement::HandBack);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = shortened("é".repeat(REASON_BYTES_MAX));
        assert!(reason.len() <= REASON_BYTES_MAX + '…'.len_utf8() && reason.ends_with("é…"));
        assert_eq!(shortened("short".into()), "short");
    }
}
