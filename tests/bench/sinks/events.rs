//! The events: a bus that is full of them, and the same in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinSet;
use upcall_bus::{Deadline, Message, Publisher};
use upcall_bus_journal::{Journal, Options};
use upcall_bus_nats::NatsBus;
use upcall_event::{Event, EventId, UploadCompleted};

/// The folder of the journal, below the benchmark's.
pub(crate) const JOURNAL: &str = "journal";
/// How many publish at once: so many share an fsync, or wait for an acknowledgement.
const PUBLISHERS: usize = 512;
const PATIENCE: Duration = Duration::from_secs(30);
/// When the first upload was, in seconds since 1970, and how many there were in a second: OSS's request ids begin with
/// the time.
const BEGIN: usize = 0x5CF3_E782;
const IN_A_SECOND: usize = 100;

/// Fills a journal.
pub(crate) fn fill_journal(folder: &Path, events: usize) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let journal = Journal::open(Options::new(folder.join(JOURNAL))).context("the journal opens")?;
        publish(Arc::new(journal.clone()), events).await?;
        journal.close().await;
        Ok(())
    })
}

/// Makes the streams on a NATS server, and fills them.
pub(crate) fn fill_nats(url: &str, events: usize) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let bus = NatsBus::connect(upcall_bus_nats::Options::new(url)).await.context("the options are good")?;
        bus.link().wait_for(|link| link.connected).await?;
        bus.provision(&[]).await.context("the streams are made")?;
        publish(Arc::new(bus.clone()), events).await?;
        bus.close().await;
        Ok(())
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

async fn publish(publisher: Arc<dyn Publisher>, events: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (publisher, next) = (Arc::clone(&publisher), Arc::clone(&next));
        publishers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= events {
                    return anyhow::Ok(());
                }
                let subject = "upcall.uploads.examplebucket.PutObject".parse()?;
                publisher.publish(Message { subject, event: event(number)? }, Deadline::after(PATIENCE)).await?;
            }
        });
    }
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    Ok(())
}

/// An event as a gateway makes them, of an object of its own.
pub(crate) fn event(number: usize) -> anyhow::Result<Event> {
    let time = BEGIN + number / IN_A_SECOND;
    let data: UploadCompleted = serde_json::from_value(json!({
        "bucket": "examplebucket", "object": format!("exampledir/photos/{number:08}.jpg"),
        "etag": "D8E8FCA2DC0F896FD7CB4CB0031BA249", "size": 1_048_576 + number, "mime_type": "image/jpeg",
        "crc64": "17834398232350201234", "image": {"width": 200, "height": 278, "format": "jpg"},
        "operation": "PutObject", "request_id": format!("{time:08X}{:016X}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        "client_ip": "203.0.113.7", "vars": {"user": "42"}, "route": "bench", "bucket_from": "body",
        "proof": ["signature"], "origin": "callback",
    }))?;
    let request_id = data.request_id.clone().unwrap_or_default();
    Ok(Event {
        id: EventId::from_request(&data.bucket, &data.object, &request_id),
        time: Timestamp::now(),
        data,
        trace: None,
    })
}
