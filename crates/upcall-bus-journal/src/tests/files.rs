use std::collections::BTreeMap;
use std::error::Error;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::{eventually, folder, message, open, publish, publish_all, subscribe, take};
use crate::{Journal, OpenError, Options, Reader, Tail, forget};

#[tokio::test]
async fn one_process_writes_a_journal_at_a_time() {
    let folder = folder();
    let journal = open(folder.path());
    let error = Journal::open(Options::new(folder.path())).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}");
    journal.close().await;
    let journal = open(folder.path());
    drop(journal);
    eventually("the lock", || Journal::open(Options::new(folder.path())).is_ok()).await;
}

#[test]
fn files_that_are_not_ours_are_left_alone_and_named() {
    let check = |prepare: &dyn Fn(&Path), expected: &str| {
        let folder = folder();
        let file = folder.path().join("journal.db");
        prepare(&file);
        let before = std::fs::read(&file).unwrap();
        for error in [Journal::open(Options::new(folder.path())).unwrap_err(), Reader::open(folder.path()).unwrap_err()]
        {
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(file.to_str().unwrap()), "{text}");
            let source = error.source().map(ToString::to_string);
            assert!(source.is_none_or(|source| !text.contains(&source)), "{text}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), before, "the file was changed");
    };
    check(
        &|file| std::fs::write(file, "no database at all, and long enough to be one".repeat(50)).unwrap(),
        "is damaged",
    );
    check(&|file| Connection::open(file).unwrap().execute_batch("CREATE TABLE t (a)").unwrap(), "not a journal");
    check(
        &|file| {
            let db = Connection::open(file).unwrap();
            db.execute_batch("PRAGMA application_id = 0x5550434A; PRAGMA user_version = 9; CREATE TABLE t (a)")
                .unwrap();
        },
        "has schema 9",
    );
}

#[tokio::test]
async fn strangers_cannot_read_what_is_in_the_folder() {
    let folder = folder();
    let modes = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let mode = |entry: std::fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().permissions().mode() & 0o777)
        };
        entries.map(mode).collect::<BTreeMap<_, _>>()
    };
    let names = ["journal.db", "journal.db-shm", "journal.db-wal", "journal.lock"];
    let journal = open(folder.path());
    publish_all(&journal, 0..3).await;
    assert_eq!(modes(), names.map(|name| (name.to_owned(), 0o600)).into());
    journal.close().await;
    drop(journal);

    // One of an earlier version, whose group was let in by somebody.
    for (name, mode) in [("journal.db", 0o644), ("journal.lock", 0o666)] {
        std::fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    let journal = open(folder.path());
    publish_all(&journal, 3..6).await;
    let modes = modes();
    assert_eq!((modes["journal.db"], modes["journal.db-wal"], modes["journal.lock"]), (0o640, 0o640, 0o660));
}

/// As when root runs `upcall journal forget` for a service of another user.
#[tokio::test]
async fn what_root_makes_in_a_journal_belongs_to_whom_the_journal_belongs() {
    const OWNER: u32 = 64_321;
    let folder = folder();
    open(folder.path()).close().await;
    let all = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    std::fs::remove_file(folder.path().join("journal.lock")).unwrap();
    if all().any(|path| chown(path, Some(OWNER), Some(OWNER)).is_err()) {
        // Only root may.
        return;
    }
    forget(folder.path(), &"c".parse().unwrap()).unwrap();
    let owner = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().uid();
    assert_eq!(owner(folder.path().join("journal.lock")), OWNER);
    assert!(all().all(|path| owner(path) == OWNER));
}

#[test]
fn a_reader_makes_no_journal() {
    let folder = folder();
    assert!(matches!(Reader::open(folder.path()), Err(OpenError::Missing { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_tail_follows_and_a_reader_tells_how_consumers_are() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..3).await;
    let mut tail = Tail::new(Reader::open(folder.path()).unwrap(), 1, ">".parse().unwrap());
    let sequences = |tail: &mut Tail| {
        let events = tail.next(10, Duration::from_secs(10)).unwrap();
        events.iter().map(|event| event.sequence).collect::<Vec<_>>()
    };
    assert_eq!(sequences(&mut tail), [2, 3]);
    assert!(tail.next(10, Duration::ZERO).unwrap().is_empty());
    publish(&journal, message(3)).await.unwrap();
    assert_eq!(sequences(&mut tail), [4]);

    let mut subscription = subscribe(&journal, "c").await;
    let mut deliveries = take(&mut *subscription, 4).await.into_iter();
    deliveries.next().unwrap().dead_letter("no such table").await.unwrap();
    deliveries.next().unwrap().retry(Duration::from_secs(60), "later").await.unwrap();
    let _held = deliveries.next().unwrap();
    deliveries.next().unwrap().ack().await.unwrap();
    let reader = Reader::open(folder.path()).unwrap();
    let [consumer] = &reader.consumers().unwrap()[..] else { panic!("not one consumer") };
    assert_eq!((consumer.floor, consumer.lag, consumer.retries, consumer.dead_letters), (2, 2, 1, 1));
    assert!(consumer.oldest_unsettled.is_some());
    let [letter] = &reader.dead_letters(Some("c"), 0, 10).unwrap()[..] else { panic!("not one dead letter") };
    assert_eq!((letter.sequence, letter.attempts, &*letter.reason), (1, 1, "no such table"));
    assert_eq!(letter.payload.as_bytes(), message(0).event.to_structured());
    assert!(reader.dead_letters(Some("other"), 0, 10).unwrap().is_empty());
}

#[test]
fn the_documented_schema_is_the_real_one() {
    const BEGIN: &str = "<!-- The schema: written by a test of upcall-bus-journal. -->\n```sql\n";
    let folder = folder();
    drop(open(folder.path()));
    let db = Connection::open(folder.path().join("journal.db")).unwrap();
    let mut statement =
        db.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'").unwrap();
    let tables: Vec<String> = statement.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let schema = tables.iter().map(|sql| format!("{sql};\n")).collect::<String>();

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/journal.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the schema");
    let (documented, after) = rest.split_once("```").unwrap();
    if documented != schema {
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "{before}{BEGIN}{schema}```{after}").unwrap();
        panic!(
            "the documented schema was not the real one; docs/reference/journal.md is repaired, look at it and commit it"
        );
    }
    let (_, queries) = page.split_once("## Queries").unwrap();
    let queries = queries.split("```").nth(1).unwrap().strip_prefix("sql").unwrap();
    db.execute_batch(queries).expect("the documented queries run");
}
