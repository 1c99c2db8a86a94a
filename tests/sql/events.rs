//! Events, what the sink is handed, and what the table has to hold afterwards.

use std::collections::BTreeMap;

use upcall_consumer::{Verdict, conformance};
use upcall_event::{Image, Proof};
use upcall_sink_sql::SqlSink;

pub(crate) use upcall_consumer::conformance::{Published, deliver};

/// An upload of an object: the number makes the event's id and its place on the bus.
pub(crate) fn upload(number: u64, object: &str, time_us: i64) -> Published {
    let mut published = conformance::upload_of(number, object);
    published.event.time = jiff::Timestamp::from_microsecond(1_767_225_600_000_000 + time_us).unwrap();
    let data = &mut published.event.data;
    data.image = data.image.take().map(|image| Image { height: None, ..image });
    data.route = "avatars".into();
    data.proof.push(Proof::Grant);
    published
}

/// Delivers a batch all of which has to go well.
pub(crate) async fn apply(sink: &SqlSink, batch: &[Published]) {
    assert_eq!(deliver(sink, batch).await, vec![Verdict::Done; batch.len()]);
}

/// What the table has to hold: of each object the event with the greatest time, place and id.
pub(crate) fn oracle<'a>(events: impl IntoIterator<Item = &'a Published>) -> Vec<(String, String)> {
    let mut latest: BTreeMap<&str, &Published> = BTreeMap::new();
    let order = |published: &Published| (published.event.time, published.sequence, published.event.id);
    for published in events {
        let kept = latest.entry(&published.event.data.object).or_insert(published);
        if order(published) > order(kept) {
            *kept = published;
        }
    }
    latest.into_iter().map(|(object, published)| (object.to_owned(), published.event.id.to_string())).collect()
}
