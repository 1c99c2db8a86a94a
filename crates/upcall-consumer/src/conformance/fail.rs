//! What fails, fails alone and for a time.

use tokio::time::timeout;

use super::{
    PATIENCE, Published, Target, apply, apply_in_the_end, deliver, each_had_its_effect, effects_of, no_event_dies,
    ready_sink, uploads,
};
use crate::Verdict;

/// One event that the target refuses is reported for itself, with a reason; the others of its batch arrive. Once the
/// cause is gone, so does it.
pub async fn a_poisonous_event_fails_alone(target: &dyn Target) {
    if !target.abilities().poison {
        return;
    }
    let sink = ready_sink(target).await;
    for (at, batch) in [(4, uploads(100..109)), (0, uploads(200..203)), (0, uploads(300..301)), (7, uploads(400..408))]
    {
        let poison = &batch[at];
        target.refuse(&poison.event).await;
        // Twice: what has been applied beside the poison must not be applied again when the batch comes again.
        for _ in 0..2 {
            let mut verdicts = deliver(&*sink, &batch).await;
            let verdict = verdicts.remove(at);
            assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Done), "its neighbours are done: {verdicts:?}");
            match verdict {
                Verdict::Retry { reason, .. } | Verdict::Dead { reason } => {
                    assert!(!reason.trim().is_empty(), "a failure has a reason");
                }
                Verdict::Done => panic!("an event is done that the target refused"),
                Verdict::Unavailable { reason } => panic!("one event is taken for an outage: {reason}"),
            }
            assert_eq!(effects_of(target, poison).await, 0, "what the target refused has an effect");
        }
        target.heal().await;
        // As an operator does with a dead letter.
        apply(&*sink, std::slice::from_ref(poison)).await;
        each_had_its_effect(target, &batch).await;
    }
}

/// While the target is away no event is done and none dies. When it is back, `prepare` and deliveries find it.
pub async fn a_target_that_is_away_costs_no_event_and_is_found_again(target: &dyn Target) {
    if !target.abilities().outage {
        return;
    }
    let sink = ready_sink(target).await;
    let before = uploads(1..=5);
    apply(&*sink, &before).await;
    for outage in 1..=2 {
        target.stop().await;
        let batch = uploads(outage * 100..outage * 100 + 10);
        for _ in 0..3 {
            let verdicts = deliver(&*sink, &batch).await;
            not_taken(&verdicts);
            // It may or may not notice; it must come back.
            let _ = timeout(PATIENCE, sink.prepare()).await.expect("the sink took too long to prepare");
        }
        target.heal().await;
        apply_in_the_end(&*sink, &batch).await;
        each_had_its_effect(target, &batch).await;
    }
    each_had_its_effect(target, &before).await;
}

/// A process may come up before its target does.
pub async fn a_sink_that_starts_before_its_target_waits_for_it(target: &dyn Target) {
    if !target.abilities().outage {
        return;
    }
    target.stop().await;
    let (sink, batch) = (target.sink().await, uploads(1..=5));
    for _ in 0..2 {
        if timeout(PATIENCE, sink.prepare()).await.expect("the sink took too long to prepare").is_ok() {
            not_taken(&deliver(&*sink, &batch).await);
        }
    }
    target.heal().await;
    super::until_prepared(&*sink).await;
    apply_in_the_end(&*sink, &batch).await;
    each_had_its_effect(target, &batch).await;
}

/// A slow target is waited for or given up on, in bounded time: what is said to be done is, and what is not arrives
/// when the target is fast again.
pub async fn a_slow_target_loses_nothing(target: &dyn Target) {
    if !target.abilities().slow {
        return;
    }
    let sink = ready_sink(target).await;
    target.slow_down().await;
    let batch = uploads(1..=5);
    let verdicts = deliver(&*sink, &batch).await;
    no_event_dies(&verdicts);
    let (done, left): (Vec<_>, Vec<_>) =
        batch.iter().cloned().zip(&verdicts).partition(|(_, verdict)| **verdict == Verdict::Done);
    let events = |of: Vec<(Published, &Verdict)>| of.into_iter().map(|(event, _)| event).collect::<Vec<_>>();
    each_had_its_effect(target, &events(done)).await;
    target.heal().await;
    let left = events(left);
    if !left.is_empty() {
        super::until_prepared(&*sink).await;
        apply_in_the_end(&*sink, &left).await;
    }
    each_had_its_effect(target, &batch).await;
}

fn not_taken(verdicts: &[Verdict]) {
    no_event_dies(verdicts);
    let done = verdicts.contains(&Verdict::Done);
    assert!(!done, "no event is done while the target is away: {verdicts:?}");
}
