//! A killed process loses nothing that it acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Message, Publisher, Receipt, Start};
use upcall_bus_journal::{Journal, Options};
use upcall_event::{Event, EventId};

/// Tells the child's test where the journal is; without it that test has nothing to do.
const FOLDER: &str = "UPCALL_TEST_JOURNAL_TO_KILL";
/// How much is acknowledged before the child is killed, each time.
const ACKNOWLEDGED: usize = 400;

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let folder = TempDir::new().unwrap();
    let (mut published, mut settled) = (Vec::new(), 0);
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_process_that_is_killed", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut note = |line: String| match line.split_once(' ') {
            Some(("stored", number)) => published.push(number.parse::<u64>().unwrap()),
            Some(("settled", _)) => settled += 1,
            _ => {}
        };
        lines.by_ref().take(ACKNOWLEDGED).for_each(&mut note);
        child.kill().unwrap();
        // What it had said when it died counts, too.
        lines.for_each(&mut note);
        child.wait().unwrap();
    }
    let journal = Journal::open(Options::new(folder.path())).unwrap();
    for number in &published {
        let receipt = journal.publish(message(*number), Deadline::after(std::time::Duration::from_secs(20))).await;
        assert_eq!(receipt.unwrap(), Receipt::Duplicate, "event {number} is lost");
    }
    let status = journal.status().unwrap();
    assert!(status.last_sequence >= published.len() as u64);
    let unsettled = status.consumers[0].lag;
    assert!(settled > 0 && status.last_sequence - unsettled >= settled, "{settled} were settled, {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let journal = Journal::open(Options::new(folder)).unwrap();
    let begin = journal.status().unwrap().last_sequence * 1_000;
    let say = |text: String| writeln!(std::io::stdout().lock(), "{text}").unwrap();
    let spec = ConsumerSpec { name: "c".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
    let mut subscription = journal.subscribe(&spec).await.unwrap();
    tokio::spawn(async move {
        loop {
            for delivery in subscription.next(16).await.unwrap() {
                let sequence = delivery.sequence();
                delivery.ack().await.unwrap();
                say(format!("settled {sequence}"));
            }
        }
    });
    let publishers = (0..8).map(|publisher| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for turn in 0.. {
                let number = begin + turn * 8 + publisher;
                journal.publish(message(number), Deadline::after(std::time::Duration::from_secs(20))).await.unwrap();
                say(format!("stored {number}"));
            }
        })
    });
    futures_util::future::join_all(publishers).await;
}

fn message(number: u64) -> Message {
    let data = serde_json::json!({
        "bucket": "examplebucket", "object": number.to_string(), "route": "tests", "bucket_from": "body", "proof": [],
        "origin": "callback",
    });
    let event = Event {
        id: EventId::from_request("examplebucket", "object", &number.to_string()),
        time: "2026-01-01T00:00:00Z".parse().expect("valid"),
        data: serde_json::from_value(data).expect("an upload"),
    };
    Message { subject: "upcall.uploads.a.PutObject".parse().expect("valid"), event }
}
