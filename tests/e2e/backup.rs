//! Backing the journal up under load, losing it, and restoring it, with the commands that the documentation shows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;
use upcall_tests::disk::SmallDisk;
use upcall_tests::executable::{self, workspace};
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::signer::Signer;
use upcall_tests::skip;

use crate::serve::{Served, configuration};

const UPLOADERS: usize = 4;
/// How many callbacks are answered before the backup is made, and between it and the loss.
const SOME: usize = 300;

/// A folder that stands for a machine, with its configuration and its backups.
struct Site {
    folder: tempfile::TempDir,
    file: PathBuf,
    signer: Signer,
    issued: AtomicU64,
    answered: Mutex<BTreeSet<String>>,
}

impl Site {
    fn new() -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let file = configuration(folder.path(), &signer, "");
        Self { folder, file, signer, issued: AtomicU64::new(0), answered: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Uploads from several connections while something is done.
    fn under_load<T>(&self, served: &Served, work: impl FnOnce() -> T) -> T {
        let (over, callbacks) = (AtomicBool::new(false), served.callbacks);
        std::thread::scope(|scope| {
            for _ in 0..UPLOADERS {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        self.upload(callbacks, self.issued.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
            self.wait_for_more();
            let done = work();
            self.wait_for_more();
            over.store(true, Ordering::Relaxed);
            done
        })
    }

    fn upload(&self, callbacks: SocketAddr, number: u64) {
        let id = format!("5CF3E782{number:016X}");
        let request = self.signer.upload("/oss/test", "examplebucket", &format!("object-{id}"), &id);
        let answer = exchange(callbacks, &request).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        self.answered.lock().unwrap().insert(id);
    }

    fn wait_for_more(&self) {
        let before = self.answered().len();
        wait_until("more callbacks are answered", || self.answered().len() >= before + SOME);
    }

    fn answered(&self) -> BTreeSet<String> {
        self.answered.lock().unwrap().clone()
    }

    /// Runs the commands of a block of the page about backups, with the paths of this site. Systemd's are passed over.
    fn run_documented(&self, part: &str) {
        for command in documented(part) {
            let command = command
                .replace("/etc/upcall/upcall.toml", &self.file.display().to_string())
                .replace("/var/lib/upcall/journal", &self.path("journal").display().to_string())
                .replace("/var/lib/upcall", &self.folder.path().display().to_string())
                .replace("/backup/", &format!("{}/backup/", self.folder.path().display()));
            if !command.starts_with("systemctl") {
                let output = self.shell(&command);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{command}: {said}");
            }
        }
    }

    fn shell(&self, command: &str) -> Output {
        let paths = std::env::var("PATH").unwrap();
        let own = executable::path().parent().unwrap().display();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.folder.path()).env("PATH", format!("{own}:{paths}"));
        shell.output().unwrap()
    }

    fn upcall(&self, arguments: &[&str]) -> Output {
        Command::new(executable::path()).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }

    /// Has the table note each row that is written.
    fn note_effects(&self) {
        let catalog = self.path("catalog.db");
        wait_until("there is a table", || {
            catalog.exists() && number(&catalog, "SELECT count(*) FROM uploads").is_some()
        });
        let db = Connection::open(&catalog).unwrap();
        db.busy_timeout(executable::PATIENCE).unwrap();
        db.execute_batch(
            "CREATE TABLE effect (request_id);
             CREATE TRIGGER inserted AFTER INSERT ON uploads BEGIN INSERT INTO effect VALUES (new.request_id); END;
             CREATE TRIGGER updated AFTER UPDATE ON uploads BEGIN INSERT INTO effect VALUES (new.request_id); END",
        )
        .unwrap();
    }

    fn effects(&self) -> u64 {
        number(&self.path("catalog.db"), "SELECT count(*) FROM effect").unwrap_or_default()
    }
}

/// The commands of the tested block of the page about backups that mention something.
fn documented(part: &str) -> Vec<String> {
    let page = std::fs::read_to_string(workspace().join("docs/operations/backup.md")).unwrap();
    let blocks = page.split("<!-- Tested").skip(1).map(|rest| rest.split("```").nth(1).unwrap());
    let block = blocks.into_iter().find(|block| block.contains(part)).unwrap_or_else(|| panic!("no block has {part}"));
    block.lines().filter_map(|line| line.strip_prefix("$ ").map(str::to_owned)).collect()
}

fn number(database: &Path, query: &str) -> Option<u64> {
    let db = Connection::open(database).ok()?;
    db.busy_timeout(executable::PATIENCE).ok()?;
    db.query_row(query, (), |row| row.get(0)).ok()
}

fn stored(journal: &Path) -> BTreeSet<String> {
    let db = Connection::open(journal.join("journal.db")).unwrap();
    let mut events = db.prepare("SELECT payload ->> '$.data.request_id' FROM event").unwrap();
    let events = events.query_map((), |row| row.get(0)).unwrap();
    events.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_backup_made_under_load_brings_back_all_that_it_had_and_each_effect_once() {
    let site = Site::new();
    let mut served = Served::start(&site.file);
    site.note_effects();
    let before = site.under_load(&served, || {
        let before = site.answered();
        site.run_documented("journal backup -c /etc/upcall/upcall.toml /backup/");
        before
    });
    wait_until("the consumer has all of them", || site.effects() == site.answered().len() as u64);
    served.kill();

    site.run_documented("journal restore");
    assert!(site.path("journal.lost").exists());
    let restored = stored(&site.path("journal"));
    let missing: Vec<_> = before.difference(&restored).collect();
    assert!(missing.is_empty(), "answered before the backup, and not in it: {missing:?}");
    let answered = site.answered();
    assert!(restored.is_subset(&answered) && restored.len() < answered.len(), "some came after the backup");

    let mut served = Served::start(&site.file);
    let lag = || {
        let metrics = get(served.admin, "/metrics").unwrap().text();
        metrics.lines().any(|line| line == "upcall_consumer_lag_events{consumer=\"catalog\"} 0")
    };
    wait_until("the consumer has had all that the backup had", lag);
    assert_eq!(site.effects(), answered.len() as u64, "each upload has had its effect once");
    // OSS reports uploads again: one that is in the backup, and one that is not.
    let [known, lost] = [0, site.issued.load(Ordering::Relaxed) - 1];
    [known, lost].iter().for_each(|number| site.upload(served.callbacks, *number));
    let next = site.issued.fetch_add(1, Ordering::Relaxed);
    site.upload(served.callbacks, next);
    wait_until("a new one has its effect", || site.effects() == answered.len() as u64 + 1);
    assert_eq!(stored(&site.path("journal")).len(), restored.len() + 2);
    assert!(served.terminate().success());
}

#[test]
fn a_backup_goes_through_a_pipe_and_back() {
    let site = Site::new();
    let mut served = Served::start(&site.file);
    site.under_load(&served, || site.run_documented("upcall.toml - >journal.db"));
    let left = std::fs::read_dir(site.path("journal")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().starts_with("journal.")).collect();
    assert!(left.is_empty(), "{left:?}");
    let output = site.shell("upcall journal restore - ./back <journal.db");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let checked = site.upcall(&["journal", "check", "-j", "back"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && said.contains("Its file is sound."), "{said}");
    assert!(stored(&site.path("back")).len() >= SOME);
    assert!(served.terminate().success());
}

#[test]
fn a_journal_that_was_copied_is_not_restored_without_its_log() {
    let site = Site::new();
    let mut served = Served::start(&site.file);
    site.under_load(&served, || {});
    let answered = site.answered().len();
    served.kill();
    assert!(std::fs::metadata(site.path("journal/journal.db-wal")).unwrap().len() > 0);
    let refused = site.upcall(&["journal", "restore", "journal/journal.db", "back"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("name their folder, journal,"), "{said}");
    assert!(!site.path("back").exists());
    // What comes through a pipe has no folder.
    let piped = site.shell("upcall journal restore - ./piped <journal/journal.db");
    let said = String::from_utf8_lossy(&piped.stderr).into_owned();
    assert!(said.contains("its newest events are missing here") || !piped.status.success(), "{said}");

    let restored = site.upcall(&["journal", "restore", "journal", "back"]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(stored(&site.path("back")).len(), answered);
    let again = site.shell("upcall journal restore - ./again <back/journal.db");
    assert!(again.status.success() && again.stderr.is_empty(), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn an_event_that_was_overwritten_is_named() {
    let site = Site::new();
    let mut served = Served::start(&site.file);
    site.under_load(&served, || {});
    assert!(served.terminate().success());
    let db = Connection::open(site.path("journal/journal.db")).unwrap();
    let overwrite = "UPDATE event SET payload = substr(payload, 1, 200) || hex(zeroblob(32)) || substr(payload, 265)";
    assert_eq!(db.execute(&format!("{overwrite} WHERE sequence = 7"), ()).unwrap(), 1);
    drop(db);
    let named = |arguments: &[&str], status: i32| {
        let output = site.upcall(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_named = said.contains("1 event can't be read any more, number 7:");
        assert!(output.status.code() == Some(status) && is_named, "{arguments:?}: {said}");
    };
    named(&["journal", "check", "-j", "journal"], 1);
    named(&["journal", "backup", "-j", "journal", "copy"], 0);
    named(&["journal", "restore", "copy", "back"], 0);
}

#[test]
fn what_keeps_a_backup_from_being_made_is_said_and_nothing_is_left_of_it() {
    let site = Site::new();
    let mut served = Served::start(&site.file);
    site.under_load(&served, || {});
    std::fs::create_dir(site.path("full")).unwrap();
    std::fs::write(site.path("full/notes"), "").unwrap();
    let file = site.file.to_str().unwrap();
    let refused = |arguments: &[&str], why: &str| {
        let output = site.upcall(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(why), "{arguments:?}: {said}");
    };
    refused(&["journal", "backup", "-c", file, "full"], "full is not empty; a copy goes into a new folder");
    refused(&["journal", "backup", "-j", "nowhere", "copy"], "there is no journal in nowhere");
    refused(&["journal", "restore", "full", "copy"], "there is no journal in full");
    refused(&["journal", "restore", "full/notes", "copy"], "what was copied is no journal");
    refused(&["journal", "restore", "nothing.db", "copy"], "nothing.db can't be opened");
    assert_eq!(std::fs::read_dir(site.path("copy")).map_or(0, Iterator::count), 0);
    let Some(disk) = SmallDisk::mount(&site.path("small"), 1) else {
        drop(served);
        return skip("a backup to a full disk: mounting a tmpfs needs root");
    };
    disk.fill();
    let copy = disk.path().join("copy");
    refused(&["journal", "backup", "-c", file, copy.to_str().unwrap()], "there is no room for the copy");
    assert_eq!(std::fs::read_dir(&copy).map_or(0, Iterator::count), 0);
    assert!(served.terminate().success());
}

#[test]
fn a_consumer_that_is_not_configured_any_more_is_forgotten_when_told_so() {
    let site = Site::new();
    let mut served = Served::start(&site.file);
    site.under_load(&served, || {});
    let file = site.file.to_str().unwrap().to_owned();
    let forget = |name: &str| {
        let output = site.upcall(&["journal", "forget", "-c", &file, name]);
        (
            output.status.code(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let refused = |name: &str, why: &str| {
        let (status, said) = forget(name);
        assert!(status == Some(1) && said.contains(why), "{said}");
    };
    refused("catalog", "is configured: take it out of the configuration first");
    refused("katalog", "there are: catalog");
    let text = std::fs::read_to_string(&file).unwrap().replace("name = \"catalog\"", "name = \"other\"");
    std::fs::write(&file, text).unwrap();
    refused("catalog", "is open in another process");
    assert!(served.terminate().success());
    let (status, said) = forget("catalog");
    assert!(status == Some(0) && said.contains("Consumer catalog is forgotten, with 0 events"), "{said}");
    refused("catalog", "has no consumer catalog");
}
