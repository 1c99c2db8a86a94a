//! An effect happens once.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::time::timeout;

use super::{
    PATIENCE, Target, apply, apply_in_the_end, each_had_its_effect, items, ready_sink, subject, upload, uploads,
};
use crate::{Sink, Verdict};

/// How often a delivery is polled at most before it is dropped.
const POLLS_MAX: usize = 12;

/// The bus may deliver an event again that was done.
pub async fn an_event_delivered_twice_has_one_effect(target: &dyn Target) {
    let sink = ready_sink(target).await;
    let batch = uploads(1..=10);
    apply(&*sink, &batch).await;
    apply(&*sink, &batch).await;
    let overlapping = uploads(6..=15);
    apply(&*sink, &overlapping).await;
    each_had_its_effect(target, &uploads(1..=15)).await;
}

/// The bus does not promise that a batch holds an event once.
pub async fn an_event_twice_in_a_batch_has_one_effect(target: &dyn Target) {
    let sink = ready_sink(target).await;
    apply(&*sink, &[upload(1), upload(2), upload(1), upload(3), upload(3)]).await;
    each_had_its_effect(target, &uploads(1..=3)).await;
}

/// The process dies when the effect is in place and the bus has not heard of it: all is delivered again, to a sink
/// that knows nothing.
pub async fn a_crash_between_effect_and_ack_has_no_second_effect(target: &dyn Target) {
    let batch = uploads(1..=20);
    let first = ready_sink(target).await;
    apply(&*first, &batch).await;
    // Not closed: a process that is killed says no farewell.
    drop(first);
    let second = ready_sink(target).await;
    let more = uploads(1..=25);
    apply(&*second, &more).await;
    each_had_its_effect(target, &more).await;
}

/// The consumer is out of time to shut down, or the batch is: the call is dropped wherever it stands, and everything is
/// delivered again.
pub async fn a_delivery_that_is_dropped_midway_may_come_again(target: &dyn Target) {
    let mut all = Vec::new();
    for polls in 1..=POLLS_MAX {
        let number = polls as u64 * 100;
        let batch = uploads(number..number + 10);
        let sink = ready_sink(target).await;
        let finished = deliver_for(&*sink, &batch, polls).await;
        let before_the_restart = polls % 2 == 0;
        if before_the_restart {
            apply_in_the_end(&*sink, &batch).await;
        }
        timeout(PATIENCE, sink.close()).await.expect("the sink took too long to close");
        let next = ready_sink(target).await;
        apply_in_the_end(&*next, &batch).await;
        all.extend(batch);
        if finished {
            break;
        }
    }
    each_had_its_effect(target, &all).await;
}

/// Polls a delivery so many times and drops it. Tells whether it was finished.
async fn deliver_for(sink: &dyn Sink, batch: &[super::Published], mut polls: usize) -> bool {
    let subject = subject();
    let items = items(&subject, batch);
    let mut delivery = pin!(sink.deliver(&items));
    let polled = poll_fn(|context| {
        let polled: Poll<Vec<Verdict>> = delivery.as_mut().poll(context);
        polls -= 1;
        match polled {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending if polls == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    });
    timeout(PATIENCE, polled).await.expect("the sink took too long over a batch")
}
