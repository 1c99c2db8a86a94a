//! Measures a journal: `cargo run --release -p upcall-bus-journal --example load -- FOLDER [EVENTS [TASKS [CONSUMERS [AGE]]]]`.
//!
//! Request ids are as OSS makes them: the time, then 16 random digits. With an `AGE` in seconds the times are spread
//! over that long before now, which fills a journal as years of work would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Message, Publisher, Start};
use upcall_bus_journal::{Journal, Options};
use upcall_event::{Event, EventId, SubjectFilter};

const BATCH: usize = 256;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "load.journal".to_owned());
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (events, tasks, consumers, age_s) = (number(500_000)?, number(64)?, number(0)?, number(0)?);
    let journal = Journal::open(Options::new(folder))?;
    let begin = journal.status()?.last_sequence;

    let reading: Vec<_> = (0..consumers)
        .map(|consumer| tokio::spawn(read(journal.clone(), format!("consumer-{consumer}"), events)))
        .collect();
    let message = example()?;
    let work = Arc::new(Work { next: AtomicU64::new(begin), begin, end: begin + events, age_s });
    let started = Instant::now();
    let publishers: Vec<_> =
        (0..tasks).map(|_| tokio::spawn(publish(journal.clone(), message.clone(), Arc::clone(&work)))).collect();
    let mut waits = Vec::new();
    for publisher in publishers {
        waits.extend(publisher.await??);
    }
    let elapsed = started.elapsed();
    waits.sort_unstable();
    let at = |permille: usize| waits.get(waits.len() * permille / 1_000).copied().unwrap_or_default();
    println!(
        "{} bytes an event, {:.0} events/s, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        message.event.to_structured().len(),
        waits.len() as f64 / elapsed.as_secs_f64(),
        at(500),
        at(990),
        at(999),
        waits.last().copied().unwrap_or_default(),
    );
    for reader in reading {
        let count = reader.await??;
        println!("a consumer settled {count} events {:?} after the start", started.elapsed());
    }
    let mut backlog = journal.backlog(&"relay".parse()?).await?;
    let (mut read, mut after, started) = (0, backlog.floor(), Instant::now());
    loop {
        let events = backlog.read(after, BATCH).await?;
        let Some(last) = events.last() else { break };
        (read, after) = (read + events.len(), last.sequence);
    }
    println!("a relay reads {:.0} events/s", read as f64 / started.elapsed().as_secs_f64());
    let memory = std::fs::read_to_string("/proc/self/status")?;
    println!("{}", memory.lines().filter(|line| line.starts_with("VmHWM")).collect::<String>());
    let status = journal.status()?;
    println!("{} events, {} MiB", status.last_sequence, status.size_bytes >> 20);
    journal.close().await;
    Ok(())
}

/// What the publishers have to do together.
struct Work {
    next: AtomicU64,
    begin: u64,
    end: u64,
    age_s: u64,
}

async fn publish(journal: Journal, message: Message, work: Arc<Work>) -> anyhow::Result<Vec<Duration>> {
    let mut waits = Vec::new();
    loop {
        let number = work.next.fetch_add(1, Ordering::Relaxed);
        if number >= work.end {
            return Ok(waits);
        }
        let mut message = message.clone();
        let request_id = work.request_id(number)?;
        message.event.id = EventId::from_request(&message.event.data.bucket, &message.event.data.object, &request_id);
        message.event.data.request_id = Some(request_id);
        let started = Instant::now();
        journal.publish(message, Deadline::after(Duration::from_secs(5))).await?;
        waits.push(started.elapsed());
    }
}

impl Work {
    fn request_id(&self, number: u64) -> anyhow::Result<String> {
        let left_s = self.age_s * (self.end - number) / (self.end - self.begin);
        let time_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - left_s;
        // SplitMix64: no two numbers give the same digits.
        let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Ok(format!("{time_s:08X}{:016X}", mixed ^ (mixed >> 31)))
    }
}

async fn read(journal: Journal, name: String, events: u64) -> anyhow::Result<u64> {
    let spec = ConsumerSpec { name: name.parse()?, filter: SubjectFilter::default(), start: Start::New };
    let mut subscription = journal.subscribe(&spec).await?;
    let mut count = 0;
    while count < events {
        let deliveries = subscription.next(BATCH).await?;
        count += deliveries.len() as u64;
        for result in join_all(deliveries.into_iter().map(|delivery| delivery.ack())).await {
            result.map_err(|(_, error)| error)?;
        }
    }
    Ok(count)
}

fn example() -> anyhow::Result<Message> {
    let event = Event {
        id: EventId::from_bytes([0; 16]),
        time: "2026-01-01T00:00:00.123456Z".parse()?,
        data: serde_json::from_value(serde_json::json!({
            "bucket": "examplebucket", "object": "exampledir/photos/2026/01/01/00000000.jpg",
            "etag": "D8E8FCA2DC0F896FD7CB4CB0031BA249", "size": 1_048_576, "mime_type": "image/jpeg",
            "crc64": "17834398232350201234", "content_md5": null,
            "image": {"width": 4000, "height": 3000, "format": "jpg"}, "operation": "PutObject",
            "request_id": "5CF3E7821AB22D0FDB86704D", "client_ip": "203.0.113.7", "vpc_id": null,
            "vars": {"user": "42"}, "extra": {}, "route": "avatars", "bucket_from": "body",
            "proof": ["signature"], "origin": "callback",
        }))?,
        trace: None,
    };
    Ok(Message { subject: "upcall.uploads.examplebucket.PutObject".parse()?, event })
}
