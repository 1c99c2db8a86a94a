//! What operators may rely on: limits, faults, files.

mod archive;
mod backlog;
mod backup;
mod clock;
mod faults;
mod files;
mod ids;
mod keeping;
mod quarantine;
mod recognition;

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use upcall_bus::{
    Bus, ConsumerSpec, Deadline, Delivery, Message, PublishError, Publisher, Receipt, Start, Subscription,
};
use upcall_event::{Event, EventId};

use crate::{Journal, Options};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(20);

fn folder() -> TempDir {
    TempDir::new().unwrap()
}

fn open(folder: &Path) -> Journal {
    Journal::open(Options::new(folder)).unwrap()
}

fn message(number: u64) -> Message {
    message_of(number, 0)
}

/// An event with so many bytes of ballast.
fn message_of(number: u64, bytes: usize) -> Message {
    let data = serde_json::json!({
        "bucket": "examplebucket", "object": number.to_string(), "size": number, "vars": {"ballast": "x".repeat(bytes)},
        "route": "tests", "bucket_from": "body", "proof": [], "origin": "callback",
    });
    let event = Event {
        id: EventId::from_request("examplebucket", "object", &number.to_string()),
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        data: serde_json::from_value(data).unwrap(),
        trace: None,
    };
    Message { subject: "upcall.uploads.a.PutObject".parse().unwrap(), event }
}

/// An event whose id has a time, except for some.
fn upload(number: u64) -> Message {
    let mut message = message(number);
    let digits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let request_id = match number % 8 {
        0 => format!("no-{number}"),
        // Not in the order of publishing.
        time => format!("{:08X}{digits:016X}", 0x5CF3_E782 + time),
    };
    message.event.id = EventId::from_request(&message.event.data.bucket, &message.event.data.object, &request_id);
    message.event.data.request_id = Some(request_id);
    message
}

async fn publish(journal: &Journal, message: Message) -> Result<Receipt, PublishError> {
    journal.publish(message, Deadline::after(PATIENCE)).await
}

async fn publish_all(journal: &Journal, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        publish(journal, message(number)).await.unwrap();
    }
}

async fn subscribe(journal: &Journal, name: &str) -> Box<dyn Subscription> {
    let spec = ConsumerSpec { name: name.parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
    journal.subscribe(&spec).await.unwrap()
}

async fn take(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = subscription.next(count - taken.len());
        taken.extend(tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap());
    }
    taken
}

/// Waits for a state.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
