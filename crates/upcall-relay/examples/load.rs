//! Measures what a relay does: `cargo run --release -p upcall-relay --example load -- URL FOLDER [EVENTS]`.
//!
//! First single publications under way together against atomic batches, in turn, on a stream of their own; then a
//! journal of so many events, relayed.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use async_nats::{HeaderMap, Subscriber};
use futures_util::StreamExt;
use futures_util::future::join_all;
use upcall_bus::{Deadline, Message, Publisher};
use upcall_bus_journal::{Journal, Options as JournalOptions};
use upcall_bus_nats::{NatsBus, Options};
use upcall_event::{Event, EventId};
use upcall_relay::{Options as RelayOptions, Relay};

const ROUNDS: usize = 3;
const ROUND_TIME: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (url, folder) = (arguments.next().unwrap_or_default(), arguments.next().unwrap_or_default());
    let events = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let options = Options::new(url);
    let bus = NatsBus::connect(options).await?;
    bus.link().wait_for(|link| link.connected).await?;
    measure_batches(&bus).await?;
    bus.provision(&[]).await?;
    measure_relay(bus, &folder, events).await
}

async fn measure_batches(bus: &NatsBus) -> anyhow::Result<()> {
    let context = jetstream::new(bus.client().clone());
    let config = stream::Config {
        name: "MEASURE".to_owned(),
        subjects: vec!["measure.>".to_owned()],
        allow_atomic_publish: true,
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    for _ in 0..ROUNDS {
        for (batch, depth) in [(1, 4_096), (100, 1), (100, 8), (1_000, 1), (1_000, 4)] {
            let rate = publish(bus, batch, depth).await?;
            println!("batches of {batch}, {depth} at a time: {rate:.0} events/s");
        }
    }
    context.delete_stream("MEASURE").await?;
    Ok(())
}

/// Publishes batches, so many at a time, and returns the events stored in a second. A batch of one is a publication.
async fn publish(bus: &NatsBus, batch: usize, depth: usize) -> anyhow::Result<f64> {
    let client = bus.client();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    let (json, started, mut sent, mut done) = (example(0)?.event.to_binary(), Instant::now(), 0_usize, 0_usize);
    while started.elapsed() < ROUND_TIME || done < sent {
        while sent - done < depth && started.elapsed() < ROUND_TIME {
            let id = client.new_inbox();
            for number in 1..=batch {
                let mut headers = HeaderMap::new();
                for (name, value) in &json.headers {
                    headers.insert(*name, value.as_str());
                }
                headers.insert("Nats-Msg-Id", format!("{id}.{number}"));
                if batch > 1 {
                    headers.insert("Nats-Batch-Id", &id[id.len() - 20..]);
                    headers.insert("Nats-Batch-Sequence", number.to_string());
                }
                let payload = json.data.clone().into();
                if number < batch {
                    client.publish_with_headers("measure.one", headers, payload).await?;
                } else {
                    if batch > 1 {
                        headers.insert("Nats-Batch-Commit", "1");
                    }
                    client.publish_with_reply_and_headers("measure.one", inbox.clone(), headers, payload).await?;
                }
            }
            sent += 1;
        }
        wait(&mut answers).await?;
        done += 1;
    }
    Ok((done * batch) as f64 / started.elapsed().as_secs_f64())
}

async fn wait(answers: &mut Subscriber) -> anyhow::Result<()> {
    let answer = tokio::time::timeout(PATIENCE, answers.next()).await?;
    let answer = answer.ok_or_else(|| anyhow::anyhow!("the connection is closed"))?;
    anyhow::ensure!(!answer.payload.starts_with(b"{\"error"), "{:?}", answer.payload);
    Ok(())
}

async fn measure_relay(bus: NatsBus, folder: &str, events: u64) -> anyhow::Result<()> {
    let journal = Journal::open(JournalOptions::new(folder))?;
    for start in (0..events).step_by(2_000) {
        let deadline = || Deadline::after(PATIENCE);
        let messages = (start..events.min(start + 2_000)).map(example).collect::<anyhow::Result<Vec<_>>>()?;
        for stored in join_all(messages.into_iter().map(|message| journal.publish(message, deadline()))).await {
            stored?;
        }
    }
    let relay = Relay::new(journal.backlog(&"relay".parse()?).await?, bus, RelayOptions::new(folder));
    let (handle, (stop, stopped)) = (relay.handle(), tokio::sync::oneshot::channel());
    let (started, before) = (Instant::now(), cpu()?);
    let running = tokio::spawn(relay.run(async {
        let _ = stopped.await;
    }));
    while handle.status().backlog > 0 {
        anyhow::ensure!(started.elapsed() < PATIENCE, "{:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (elapsed, used) = (started.elapsed(), cpu()? - before);
    let rate = events as f64 / elapsed.as_secs_f64();
    let cost = used.as_secs_f64() * 1e6 / events as f64;
    println!("the relay: {rate:.0} events/s, {cost:.1} µs of CPU each");
    let memory = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", memory.lines().filter(|line| line.starts_with("VmHWM")).collect::<String>());
    let _ = stop.send(());
    running.await?;
    Ok(())
}

/// What this process has had of the processors.
fn cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn example(number: u64) -> anyhow::Result<Message> {
    let id = EventId::from_request("examplebucket", "object", &number.to_string());
    let json = serde_json::json!({
        "specversion": "1.0", "id": id, "type": upcall_event::EVENT_TYPE, "source": "/oss/examplebucket",
        "subject": format!("uploads/2026/01/01/photo-{number}.jpg"), "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "bucket": "examplebucket", "object": format!("uploads/2026/01/01/photo-{number}.jpg"),
            "etag": "D8E8FCA2DC0F896FD7CB4CB0031BA249", "size": 1_048_576, "mime_type": "image/jpeg",
            "crc64": "17834398232350201234", "content_md5": null,
            "image": {"width": 4_000, "height": 3_000, "format": "jpg"}, "operation": "PutObject",
            "request_id": format!("{number:024X}"), "client_ip": "203.0.113.7", "vpc_id": null,
            "vars": {"user": "42"}, "extra": {}, "route": "avatars", "bucket_from": "body",
            "proof": ["signature"], "origin": "callback",
        },
    });
    let event = Event::from_structured(json.to_string().as_bytes())?;
    Ok(Message { subject: "upcall.uploads.examplebucket.PutObject".parse()?, event })
}
