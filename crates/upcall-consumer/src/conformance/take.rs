//! What comes in arrives.

use std::collections::BTreeMap;

use tokio::time::timeout;
use upcall_event::EventId;

use super::{
    PATIENCE, Published, Target, apply, apply_in_the_end, each_had_its_effect, ready_sink, until_prepared, upload,
    upload_of, uploads,
};

/// How many events the largest batch has: as many as a consumer hands over unless it is told otherwise.
const BATCH_MAX: u64 = 500;
/// How many objects are uploaded to again and again.
const OBJECTS: u64 = 3;

/// Batches of one and of many; objects of any name; events of which little is known and of which much is.
pub async fn any_event_arrives(target: &dyn Target) {
    let sink = ready_sink(target).await;
    let mut bare = upload(1);
    let data = &mut bare.event.data;
    (data.etag, data.size, data.mime_type, data.crc64) = (None, None, None, None);
    (data.image, data.operation, data.request_id, data.client_ip) = (None, None, None, None);
    data.vars.clear();
    data.extra.clear();
    apply(&*sink, std::slice::from_ref(&bare)).await;

    let names = [
        "a b/ü/画像 🦀.jpg",
        "it's \"quoted\" `so` $(echo) ${object} %s \\n",
        "-rf",
        "../../up",
        "<b>&amp;",
        "x\ny\tz",
    ];
    let odd: Vec<Published> = (2..).zip(names).map(|(number, name)| upload_of(number, name)).collect();
    apply(&*sink, &odd).await;

    let mut rich = upload(99);
    rich.event.data.size = Some(u64::from(u32::MAX) * 1000);
    rich.event.data.vars.extend([("note".to_owned(), "\"; DROP TABLE uploads; --".to_owned())]);
    rich.event.data.extra.extend([("nested".to_owned(), vec!["x".repeat(10_000), "\"}]".to_owned()].into())]);
    apply(&*sink, std::slice::from_ref(&rich)).await;

    let many = uploads(1_000..1_000 + BATCH_MAX);
    apply(&*sink, &many).await;
    let all: Vec<Published> = [bare, rich].into_iter().chain(odd).chain(many).collect();
    each_had_its_effect(target, &all).await;
}

/// A consumer has several batches under way at once.
pub async fn batches_at_once_all_arrive(target: &dyn Target) {
    let sink = ready_sink(target).await;
    let batches: [Vec<Published>; 4] = std::array::from_fn(|at| uploads(at as u64 * 100..at as u64 * 100 + 50));
    let [a, b, c, d] = &batches;
    tokio::join!(
        apply_in_the_end(&*sink, a),
        apply_in_the_end(&*sink, b),
        apply_in_the_end(&*sink, c),
        apply_in_the_end(&*sink, d)
    );
    each_had_its_effect(target, &batches.concat()).await;
}

/// `prepare` is called after every outage, whether anything was amiss or not; what was closed leaves all in place.
pub async fn preparing_and_closing_do_no_harm(target: &dyn Target) {
    let idle = target.sink().await;
    timeout(PATIENCE, idle.close()).await.expect("a sink that did nothing took too long to close");
    let sink = ready_sink(target).await;
    apply(&*sink, &uploads(1..=5)).await;
    until_prepared(&*sink).await;
    until_prepared(&*sink).await;
    apply(&*sink, &uploads(6..=10)).await;
    timeout(PATIENCE, sink.close()).await.expect("the sink took too long to close");
    let next = ready_sink(target).await;
    apply(&*next, &uploads(11..=15)).await;
    each_had_its_effect(target, &uploads(1..=15)).await;
}

/// Where it was promised: of an object's events no earlier one takes effect after a later one, and the last one does.
pub async fn an_objects_events_take_effect_in_their_order(target: &dyn Target) {
    if !target.abilities().order {
        return;
    }
    let sink = ready_sink(target).await;
    let of = |number: u64| upload_of(number, &format!("object {}", number % OBJECTS));
    let events: Vec<Published> = (1..=60).map(of).collect();
    for batch in events.chunks(20) {
        apply(&*sink, batch).await;
    }
    let place: BTreeMap<EventId, u64> =
        events.iter().map(|published| (published.event.id, published.sequence)).collect();
    let mut seen: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for number in target.effects().await.iter().filter_map(|id| place.get(id)) {
        seen.entry(number % OBJECTS).or_default().push(*number);
    }
    for (object, last) in [(0, 60), (1, 58), (2, 59)] {
        let numbers = seen.remove(&object).unwrap_or_default();
        assert!(numbers.is_sorted(), "an object's events took effect in the order {numbers:?}");
        assert_eq!(numbers.last(), Some(&last), "the last event of an object stays");
    }
}
