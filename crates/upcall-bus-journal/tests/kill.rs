//! A killed process loses nothing that it acknowledged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Message, Publisher, Receipt, Start};
use upcall_bus_journal::{Journal, Options, Retention};
use upcall_event::{Event, EventId};

/// Tells the child's test where the journal is; without it that test has nothing to do.
const FOLDER: &str = "UPCALL_TEST_JOURNAL_TO_KILL";
/// Has the child keep nothing that is settled.
const KEEP_NOTHING: &str = "UPCALL_TEST_JOURNAL_KEEP_NOTHING";
/// How much is acknowledged before the child is killed, each time: before the first ids go into the table, and in the
/// midst of it.
const ACKNOWLEDGED: [usize; 4] = [400, 9_000, 7_000, 11_000];
const PUBLISHERS: u64 = 64;
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let folder = TempDir::new().unwrap();
    let (mut published, mut settled) = (Vec::new(), 0);
    for acknowledged in ACKNOWLEDGED {
        let (stored, done) = run_and_kill(folder.path(), false, acknowledged);
        published.extend(stored);
        settled += done;
        check_ids(folder.path());
    }
    let journal = Journal::open(Options::new(folder.path())).unwrap();
    for (number, receipt) in publish_all(&journal, &published).await {
        assert_eq!(receipt, Receipt::Duplicate, "event {number} is lost");
    }
    let status = journal.status().unwrap();
    assert!(status.last_sequence >= published.len() as u64);
    let unsettled = status.consumers[0].lag;
    assert!(settled > 0 && status.last_sequence - unsettled >= settled, "{settled} were settled, {status:?}");
}

#[tokio::test]
async fn a_killed_process_knows_an_id_for_as_long_as_there_is_its_event() {
    let folder = TempDir::new().unwrap();
    let mut published = Vec::new();
    for acknowledged in ACKNOWLEDGED {
        published.extend(run_and_kill(folder.path(), true, acknowledged).0);
        check_ids(folder.path());
    }
    let ids = ids(folder.path());
    let journal = Journal::open(Options::new(folder.path())).unwrap();
    let (mut there, mut gone) = (0, 0);
    for (number, receipt) in publish_all(&journal, &published).await {
        let known = ids.contains(message(number).event.id.as_bytes());
        assert_eq!(receipt == Receipt::Duplicate, known, "event {number}");
        *(if known { &mut there } else { &mut gone }) += 1;
    }
    assert!(there > 0 && gone > 0, "{there} were kept, and {gone} removed");
}

/// Has a process work in the folder, kills it, and tells what it had said before it died: the events that it stored,
/// and how many it settled.
fn run_and_kill(folder: &Path, keep_nothing: bool, acknowledged: usize) -> (Vec<u64>, u64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["the_process_that_is_killed", "--exact", "--nocapture"]).env(FOLDER, folder);
    if keep_nothing {
        command.env(KEEP_NOTHING, "1");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut stored, mut settled) = (Vec::new(), 0);
    let mut note = |line: String| match line.split_once(' ') {
        Some(("stored", number)) => stored.push(number.parse().unwrap()),
        Some(("settled", _)) => settled += 1,
        _ => {}
    };
    lines.by_ref().take(acknowledged).for_each(&mut note);
    child.kill().unwrap();
    // What it had said when it died counts, too.
    lines.for_each(&mut note);
    child.wait().unwrap();
    (stored, settled)
}

/// Every id in the table has an event, every event that should be there has its id there, and no id has two events.
fn check_ids(folder: &Path) {
    let shell = look_into(folder);
    let count = |sql: &str| shell.query_row(sql, (), |row| row.get::<_, u64>(0)).unwrap();
    let without_event =
        "SELECT count(*) FROM event_id LEFT JOIN event USING (sequence, id, epoch) WHERE event.id IS NULL";
    assert_eq!(count(without_event), 0);
    let not_found = "SELECT count(*) FROM event LEFT JOIN event_id USING (epoch, id)
                     WHERE event.sequence <= (SELECT indexed_up_to FROM state) AND event_id.id IS NULL";
    assert_eq!(count(not_found), 0);
    assert_eq!(count("SELECT count(*) - count(DISTINCT id) FROM event"), 0);
}

/// Leaves the files as the killed process left them: who opens them next has to cope.
fn look_into(folder: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(folder.join("journal.db"), flags).unwrap()
}

fn ids(folder: &Path) -> HashSet<[u8; 16]> {
    let shell = look_into(folder);
    let mut statement = shell.prepare("SELECT id FROM event").unwrap();
    statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

async fn publish_all(journal: &Journal, numbers: &[u64]) -> Vec<(u64, Receipt)> {
    let mut receipts = Vec::new();
    for numbers in numbers.chunks(1_000) {
        let publish =
            async |number: &u64| (*number, journal.publish(message(*number), Deadline::after(PATIENCE)).await.unwrap());
        receipts.extend(join_all(numbers.iter().map(publish)).await);
    }
    receipts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let mut options = Options::new(folder);
    if std::env::var_os(KEEP_NOTHING).is_some() {
        options.retention = Retention { age: Duration::ZERO, ..Retention::default() };
    }
    let journal = Journal::open(options).unwrap();
    let begin = journal.status().unwrap().last_sequence * 1_000;
    let say = |text: String| writeln!(std::io::stdout().lock(), "{text}").unwrap();
    let spec = ConsumerSpec { name: "c".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
    let mut subscription = journal.subscribe(&spec).await.unwrap();
    tokio::spawn(async move {
        loop {
            let acks = subscription.next(256).await.unwrap().into_iter().map(async |delivery| {
                let sequence = delivery.sequence();
                delivery.ack().await.unwrap();
                say(format!("settled {sequence}"));
            });
            join_all(acks).await;
        }
    });
    let publishers = (0..PUBLISHERS).map(|publisher| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for turn in 0.. {
                let number = begin + turn * PUBLISHERS + publisher;
                journal.publish(message(number), Deadline::after(PATIENCE)).await.unwrap();
                say(format!("stored {number}"));
            }
        })
    });
    join_all(publishers).await;
}

fn message(number: u64) -> Message {
    let digits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (object, request_id) = (number.to_string(), format!("{:08X}{digits:016X}", 0x5CF3_E782 + number / 1_000));
    let id = EventId::from_request("examplebucket", &object, &request_id);
    let data = serde_json::json!({
        "bucket": "examplebucket", "object": object, "request_id": request_id, "route": "tests", "bucket_from": "body",
        "proof": [], "origin": "callback",
    });
    let event = Event {
        id,
        time: "2026-01-01T00:00:00Z".parse().expect("valid"),
        data: serde_json::from_value(data).expect("an upload"),
        trace: None,
    };
    Message { subject: "upcall.uploads.a.PutObject".parse().expect("valid"), event }
}
