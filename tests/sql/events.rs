//! Events, what the sink is handed, and what the table has to hold afterwards.

use std::collections::BTreeMap;

use upcall_consumer::{Item, Sink, Verdict};
use upcall_event::{BucketSource, Event, EventId, Image, Origin, Proof, Subject, UploadCompleted};
use upcall_sink_sql::SqlSink;

/// An event and its place on the bus.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Published {
    pub(crate) event: Event,
    pub(crate) sequence: u64,
}

/// An upload of an object: the number makes the event's id and its place on the bus.
pub(crate) fn upload(number: u64, object: &str, time_us: i64) -> Published {
    let data = UploadCompleted {
        bucket: "examplebucket".into(),
        object: object.into(),
        etag: Some(format!("ETAG{number}")),
        size: Some(1024),
        mime_type: Some("image/jpeg".into()),
        crc64: Some("17834398232350201234".into()),
        content_md5: None,
        image: Some(Image { width: Some(200), height: None, format: Some("jpg".into()) }),
        operation: Some("PutObject".into()),
        request_id: Some(number.to_string()),
        client_ip: Some("203.0.113.7".into()),
        vpc_id: None,
        vars: [("user".to_owned(), "42".to_owned())].into(),
        extra: [("anything".to_owned(), 1.into())].into(),
        route: "avatars".into(),
        bucket_from: BucketSource::Body,
        proof: vec![Proof::Signature, Proof::Grant],
        origin: Origin::Callback,
    };
    let id = EventId::from_request("examplebucket", object, &number.to_string());
    let time = jiff::Timestamp::from_microsecond(1_767_225_600_000_000 + time_us).unwrap();
    Published { event: Event { id, time, data }, sequence: number }
}

pub(crate) async fn deliver(sink: &SqlSink, batch: &[Published]) -> Vec<Verdict> {
    let subject: Subject = "upcall.uploads.examplebucket.PutObject".parse().unwrap();
    let items: Vec<Item<'_>> = batch
        .iter()
        .map(|Published { event, sequence }| Item { subject: &subject, event, attempt: 1, sequence: *sequence })
        .collect();
    sink.deliver(&items).await
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
