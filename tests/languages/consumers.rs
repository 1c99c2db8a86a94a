//! The examples of `docs/consumers.md` against a real server: every effect once, whatever happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rusqlite::Connection;
use upcall_bus::{Archive, DeadLetter, Deadline, Message, Publisher, Receipt, StoredEvent};
use upcall_event::{BucketSource, Event, EventId, Origin, Proof, SubjectTemplate, UploadCompleted};
use upcall_tests::executable::{PATIENCE, Running};
use upcall_tests::{nats, skip};

use crate::broker::{Broker, NAME, headers};
use crate::example::{Example, Language, NODE, PYTHON};

const EVENTS: usize = 400;
const REFUSAL: &str = "no room for it";
/// Seconds until what a killed example held comes again.
const ACK_WAIT_SHORT: u32 = 2;
/// How long an example may take to end: a look at the database, a request to the server, and some.
const END_MAX: Duration = Duration::from_secs(10);
/// Longer than any test waits: what comes again sooner was handed back.
const ACK_WAIT_LONG: u32 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn the_python_consumer_applies_every_upload_once() {
    applies_every_upload_once(&PYTHON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_consumer_applies_every_upload_once() {
    applies_every_upload_once(&NODE).await;
}

async fn applies_every_upload_once(language: &'static Language) {
    let what = format!("the {} consumer of docs/consumers.md", language.fence);
    if nats::is_missing(&what) {
        return;
    }
    let Some(example) = Example::new(language) else {
        return skip(&format!("{what}: the language or its NATS library is not installed (tests/run installs them)"));
    };
    let broker = Broker::start().await;
    let mut events = generate(EVENTS);
    let replayed_only = events.pop().unwrap();
    let refused = events.pop().unwrap();
    let handed_back = events.split_off(EVENTS - 50);

    // What is no event, and one that its database refuses for now: neither is in the way of the others.
    let mut running = example.start(&broker.url(), ACK_WAIT_SHORT);
    eventually(&mut running, "it has its table", async || refuse(&example, &refused).is_ok()).await;
    let mut foreign = headers(&refused);
    foreign.insert("ce-type", "com.example.other");
    broker.publish("upcall.uploads.x.y".to_owned(), foreign, b"{}".to_vec()).await;
    broker.publish("upcall.uploads.x.y".to_owned(), headers(&refused), b"not JSON".to_vec()).await;
    publish(&broker, &refused).await;

    // It is killed while it holds events.
    for event in &events[..EVENTS / 2] {
        assert_eq!(publish(&broker, event).await, Receipt::Stored);
    }
    eventually(&mut running, "some uploads are applied", async || applied(&example) > 20).await;
    let lock = lock(&example);
    for event in &events[EVENTS / 2..] {
        assert_eq!(publish(&broker, event).await, Receipt::Stored);
    }
    eventually(&mut running, "it holds uploads", async || broker.open().await.is_some_and(|(_, held)| held > 1)).await;
    running.kill();
    drop(lock);
    assert!(applied(&example) < events.len());
    running = example.start(&broker.url(), ACK_WAIT_SHORT);

    // The same uploads again, by every way.
    for event in events.iter().step_by(10) {
        assert_eq!(publish(&broker, event).await, Receipt::Duplicate);
        broker.publish_unrecognised(event).await;
    }
    let replayed = [stored(1, &events[0]), stored(2, &replayed_only)];
    broker.bus().redeliver(&NAME.parse().unwrap(), "a replay", &replayed).await.unwrap();
    events.push(replayed_only);
    eventually(&mut running, "everything is settled", async || broker.open().await == Some((0, 0))).await;
    assert_applied_once(&example, &events);

    // The dead letter, once what was wrong is mended.
    let letter = the_dead_letter(&broker, &refused).await;
    open(&example).execute_batch("DROP TRIGGER refuse").unwrap();
    assert!(broker.bus().retry_dead_letter(letter.number).await.unwrap());
    events.push(refused);
    eventually(&mut running, "it is applied after all", async || applied(&example) == events.len()).await;
    eventually(&mut running, "it is settled, too", async || broker.open().await == Some((0, 0))).await;
    assert_applied_once(&example, &events);
    assert_eq!(broker.bus().dead_letters(0, 10).await.unwrap(), []);
    let redelivery = broker.stream(&broker.bus().names().redelivery()).await;
    assert_eq!(redelivery.cached_info().state.messages, 0, "what was given again is settled");
    assert!(running.terminate().success(), "{:?}", running.rest());

    // It ends in good order while it holds events, and the next one has them at once.
    running = example.start(&broker.url(), ACK_WAIT_LONG);
    let lock = self::lock(&example);
    for event in &handed_back {
        publish(&broker, event).await;
    }
    let held = u64::try_from(handed_back.len()).unwrap();
    eventually(&mut running, "it holds them all", async || broker.open().await == Some((0, held))).await;
    let asked = Instant::now();
    assert!(running.terminate().success(), "{:?}", running.rest());
    assert!(asked.elapsed() < END_MAX, "it took {:?} to end", asked.elapsed());
    drop(lock);
    running = example.start(&broker.url(), ACK_WAIT_LONG);
    eventually(&mut running, "everything is settled again", async || broker.open().await == Some((0, 0))).await;
    events.extend(handed_back);
    assert_applied_once(&example, &events);
    assert!(running.terminate().success(), "{:?}", running.rest());
}

/// Uploads of all kinds: any key, any custom variables, numbers that JavaScript can't hold.
fn generate(count: usize) -> Vec<Event> {
    let optional = |text: &'static str| proptest::option::of(text);
    let strategy = (
        "[a-z]{3}",
        any::<String>(),
        0..1_u64 << 50,
        optional("(PutObject|PostObject)"),
        any::<BTreeMap<String, String>>(),
        any::<u64>(),
    );
    let mut runner = TestRunner::deterministic();
    let event = |number: usize| {
        let (bucket, object, size, operation, vars, large) = strategy.new_tree(&mut runner).unwrap().current();
        let bucket = bucket[..1].to_owned() + "-bucket";
        let request_id = format!("5CF3E782{number:016X}");
        Event {
            id: EventId::from_request(&bucket, &object, &request_id),
            time: format!("2026-01-01T00:00:00.{number:06}Z").parse().unwrap(),
            data: UploadCompleted {
                bucket,
                object,
                etag: None,
                size: Some(size),
                mime_type: Some("text/plain".to_owned()),
                crc64: Some(large.to_string()),
                content_md5: None,
                image: None,
                operation,
                request_id: Some(request_id),
                client_ip: None,
                vpc_id: None,
                vars,
                extra: [("large".to_owned(), large.into())].into(),
                route: "test".to_owned(),
                bucket_from: BucketSource::Body,
                proof: vec![Proof::Signature],
                origin: Origin::Callback,
            },
            trace: None,
        }
    };
    (0..count).map(event).collect()
}

async fn publish(broker: &Broker, event: &Event) -> Receipt {
    let message = Message { subject: SubjectTemplate::default().fill(event).unwrap(), event: event.clone() };
    broker.bus().publish(message, Deadline::after(PATIENCE)).await.unwrap()
}

fn open(example: &Example) -> Connection {
    let database = Connection::open(example.database()).unwrap();
    database.busy_timeout(PATIENCE).unwrap();
    database
}

/// Keeps the example from writing, until this is dropped.
fn lock(example: &Example) -> Connection {
    let database = open(example);
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    database
}

/// Has the example's database refuse an event, until the trigger is dropped.
fn refuse(example: &Example, event: &Event) -> rusqlite::Result<()> {
    open(example).execute_batch(&format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON upload WHEN new.id = '{}' BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END",
        event.id
    ))
}

fn applied(example: &Example) -> usize {
    // There is no table before the example has begun.
    open(example).query_row("SELECT count(*) FROM upload", [], |row| row.get(0)).unwrap_or(0)
}

fn assert_applied_once(example: &Example, events: &[Event]) {
    let database = open(example);
    let mut rows = database.prepare("SELECT id, time, bucket, object, size, data FROM upload").unwrap();
    let mut read = BTreeSet::new();
    let mut rows = rows.query([]).unwrap();
    let by_id: BTreeMap<String, &Event> = events.iter().map(|event| (event.id.to_string(), event)).collect();
    while let Some(row) = rows.next().unwrap() {
        let id: String = row.get(0).unwrap();
        let event = by_id.get(&id).unwrap_or_else(|| panic!("{id} was never published"));
        let text = |index| row.get::<_, String>(index).unwrap();
        assert_eq!(text(1), event.time.to_string());
        assert_eq!((text(2), text(3)), (event.data.bucket.clone(), event.data.object.clone()));
        assert_eq!(row.get::<_, u64>(4).unwrap(), event.data.size.unwrap());
        assert_eq!(text(5).as_bytes(), event.to_binary().data);
        read.insert(id);
    }
    assert_eq!(read, by_id.into_keys().collect());

    let mut wanted: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for event in events {
        let (uploads, bytes) = wanted.entry(&event.data.bucket).or_default();
        (*uploads, *bytes) = (*uploads + 1, *bytes + event.data.size.unwrap());
    }
    for (bucket, wanted) in wanted {
        let query = "SELECT uploads, bytes FROM usage WHERE bucket = ?";
        let counted = database.query_row(query, [bucket], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(counted, wanted, "{bucket}: uploads and bytes, each once");
    }
}

/// Reads what the example could not take, as `upcall dead` does.
async fn the_dead_letter(broker: &Broker, event: &Event) -> DeadLetter {
    let letters = broker.bus().dead_letters(0, 10).await.unwrap();
    let [letter] = letters.as_slice() else { panic!("there should be one: {letters:?}") };
    assert_eq!(letter.consumer.as_str(), NAME);
    // Two that are no events came before it.
    assert_eq!(letter.stored, StoredEvent { stored_at: letter.stored.stored_at, ..stored(3, event) });
    assert!(letter.stored.stored_at < letter.died_at);
    assert!(letter.reason.contains(REFUSAL), "{}", letter.reason);
    assert!(letter.attempts >= 4, "{}", letter.attempts);
    letter.clone()
}

fn stored(sequence: u64, event: &Event) -> StoredEvent {
    let subject = SubjectTemplate::default().fill(event).unwrap();
    StoredEvent { sequence, stored_at: event.time, subject, event: event.clone() }
}

/// Waits until something is so, for as long as the tests' patience.
async fn eventually(running: &mut Running, what: &str, is_so: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "not in time: {what}; it said:\n{}", running.rest().join("\n"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
