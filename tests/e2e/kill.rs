//! Killing the process, again and again: what was answered 200 is there, once, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use upcall_tests::http::{exchange, wait_until};
use upcall_tests::signer::Signer;

use crate::serve::{Served, configuration};

const KILLS: u64 = 100;
const UPLOADERS: usize = 8;

/// What the uploaders know, over all lives of the process.
#[derive(Default)]
struct Oracle {
    issued: AtomicU64,
    answered: Mutex<BTreeSet<String>>,
}

#[test]
fn every_event_that_was_answered_200_survives_a_hundred_kills_once() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let file = configuration(folder.path(), &signer, "");
    let oracle = Oracle::default();
    for life in 0..KILLS {
        let mut served = Served::start(&file);
        load(&served, &signer, &oracle, life);
        served.kill();
    }
    let answered = oracle.answered.lock().unwrap().clone();
    assert!(answered.len() > 1000, "only {} callbacks were answered: that proves little", answered.len());

    let mut served = Served::start(&file);
    let journal = folder.path().join("journal/journal.db");
    let stored = count_by_request_id(&journal, "SELECT json_extract(payload, '$.data.request_id') FROM event");
    let catalog = folder.path().join("catalog.db");
    wait_until("the consumer has every event", || {
        sqlite(&catalog, "SELECT count(*) FROM uploads").trim() == stored.len().to_string()
    });
    assert!(served.terminate().success());

    let issued: BTreeSet<String> = (0..oracle.issued.load(Ordering::Relaxed)).map(request_id).collect();
    let doubled: Vec<_> = stored.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "stored more than once: {doubled:?}");
    let lost: Vec<_> = answered.iter().filter(|id| !stored.contains_key(*id)).collect();
    assert!(lost.is_empty(), "answered 200 and lost: {lost:?}");
    let invented: Vec<_> = stored.keys().filter(|id| !issued.contains(*id)).collect();
    assert!(invented.is_empty(), "stored and never issued: {invented:?}");
    let consumed = count_by_request_id(&catalog, "SELECT request_id FROM uploads");
    assert_eq!(consumed, stored, "the consumer has exactly what the journal has");
}

/// Opening the journal with SQLite's own shell, for reading or for a backup, is a supported use.
#[test]
fn an_operator_with_a_shell_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let mut served = Served::start(&configuration(folder.path(), &signer, ""));
    let journal = folder.path().join("journal/journal.db");
    let log = folder.path().join("journal/journal.db-wal");
    let upload = |served: &Served, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let id = request_id(number);
            let request = signer.upload("/oss/test", "examplebucket", &format!("object-{id}"), &id);
            assert_eq!(exchange(served.callbacks, &request).unwrap().status, 200);
        }
    };
    upload(&served, 0..50);
    let inode = std::fs::metadata(&log).unwrap().ino();
    let backup = format!(".backup {}", folder.path().join("backup.db").display());
    for command in ["SELECT count(*) FROM event", &backup] {
        let output = Command::new("sqlite3").arg(&journal).arg(command).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::metadata(&log).map(|log| log.ino()).ok(), Some(inode), "{command} took the log away");
    }
    upload(&served, 50..100);
    served.kill();
    assert_eq!(sqlite(&journal, "SELECT count(*) FROM event").trim(), "100");
}

/// A lock that somebody holds for a moment delays callbacks, and loses none.
#[test]
fn a_short_lock_in_a_shell_loses_no_callback() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    let mut served = Served::start(&configuration(folder.path(), &signer, ""));
    let mut shell = Command::new("sqlite3");
    // It waits its turn for the lock, and ends at a mistake: a shell that goes on silently is waited for in vain.
    shell.args(["-bail", "-cmd", ".timeout 10000"]).arg(folder.path().join("journal/journal.db"));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"BEGIN IMMEDIATE; SELECT 'locked';\n").unwrap();
    let mut locked = [0; 7];
    shell.stdout.as_mut().unwrap().read_exact(&mut locked).unwrap();
    let (address, request) = (served.callbacks, signer.upload("/oss/test", "examplebucket", "a", &request_id(1)));
    let answer = std::thread::spawn(move || exchange(address, &request).unwrap());
    // Longer than SQLite itself waits for a lock here.
    std::thread::sleep(Duration::from_secs(1));
    input.write_all(b"ROLLBACK;\n.quit\n").unwrap();
    assert_eq!(answer.join().unwrap().status, 200);
    assert!(shell.wait().unwrap().success() && served.terminate().success());
}

/// Uploads from several connections until the process has been killed in the middle of it.
fn load(served: &Served, signer: &Signer, oracle: &Oracle, life: u64) {
    let over = AtomicBool::new(false);
    let address = served.callbacks;
    std::thread::scope(|scope| {
        for _ in 0..UPLOADERS {
            scope.spawn(|| upload_until(&over, address, signer, oracle));
        }
        // Somewhere between the first callback and well into the work, differently in each life.
        std::thread::sleep(Duration::from_millis(5 + life * 37 % 90));
        kill(served.id());
        over.store(true, Ordering::Relaxed);
    });
}

fn upload_until(over: &AtomicBool, address: SocketAddr, signer: &Signer, oracle: &Oracle) {
    while !over.load(Ordering::Relaxed) {
        let id = request_id(oracle.issued.fetch_add(1, Ordering::Relaxed));
        let request = signer.upload("/oss/test", "examplebucket", &format!("object-{id}"), &id);
        match exchange(address, &request) {
            Ok(answer) if answer.status == 200 => {
                oracle.answered.lock().unwrap().insert(id);
            }
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_) => return,
        }
    }
}

fn request_id(number: u64) -> String {
    format!("5CF3E782{number:016X}")
}

fn kill(process: u32) {
    assert!(Command::new("kill").args(["-KILL", &process.to_string()]).status().unwrap().success());
}

fn count_by_request_id(database: &Path, query: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for id in sqlite(database, query).lines() {
        *counts.entry(id.to_owned()).or_default() += 1;
    }
    counts
}

/// Asks a database with SQLite's own command, as an operator would.
fn sqlite(database: &Path, query: &str) -> String {
    let output = Command::new("sqlite3")
        .args(["-readonly", "-cmd", ".timeout 10000"])
        .arg(database)
        .arg(query)
        .output()
        .unwrap();
    assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
