use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use upcall_bus::Receipt;

use super::{folder, message, open, publish, publish_all, subscribe, take};
use crate::{BackupError, Journal, OpenError, Options, Reader, restore};

#[tokio::test]
async fn a_copy_that_is_made_while_events_come_has_all_that_came_before() {
    let (folder, backups) = (folder(), folder());
    let journal = open(folder.path());
    publish_all(&journal, 0..200).await;
    let mut subscription = subscribe(&journal, "c").await;
    let mut deliveries = take(&mut *subscription, 3).await.into_iter();
    deliveries.next().unwrap().ack().await.unwrap();
    deliveries.next().unwrap().dead_letter("no such table").await.unwrap();
    drop((deliveries, subscription));

    let over = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn({
        let (journal, over) = (journal.clone(), Arc::clone(&over));
        async move {
            let mut number = 200;
            while !over.load(Ordering::Relaxed) {
                publish(&journal, message(number)).await.unwrap();
                number += 1;
            }
        }
    });
    let (from, into) = (folder.path().to_owned(), backups.path().join("new/one"));
    let copied = tokio::task::spawn_blocking({
        let into = into.clone();
        move || Reader::open(&from).unwrap().back_up(&into)
    });
    let copied = copied.await.unwrap().unwrap();
    over.store(true, Ordering::Relaxed);
    publishing.await.unwrap();
    assert!(copied.events >= 200 && copied.sequences == Some((1, copied.events)), "{copied:?}");
    assert_eq!((copied.dead_letters, copied.faults.is_empty()), (1, true));
    let names: Vec<_> = std::fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["journal.db"]);
    let mode = std::fs::metadata(into.join("journal.db")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let restored = Journal::open(Options::new(&into)).unwrap();
    let state = restored.status().unwrap();
    assert_eq!((state.last_sequence, state.consumers[0].floor), (copied.events, 2));
    assert_eq!(publish(&restored, message(7)).await.unwrap(), Receipt::Duplicate, "it knows what it had");
    assert_eq!(publish(&restored, message(1_000_000)).await.unwrap(), Receipt::Stored);
    assert_eq!(restored.status().unwrap().last_sequence, copied.events + 1);
}

#[tokio::test]
async fn what_retention_has_removed_is_not_copied_and_no_sequence_comes_back() {
    let (folder, backups) = (folder(), folder());
    let journal = open(folder.path());
    publish_all(&journal, 0..50).await;
    journal.execute("DELETE FROM event; DELETE FROM event_id; UPDATE state SET sequence_removed = 50").await;
    let into = backups.path().join("one");
    let copied = Reader::open(folder.path()).unwrap().back_up(&into).unwrap();
    assert_eq!((copied.events, copied.sequences, copied.newest_ms), (0, None, None));
    assert_eq!(Reader::open(&into).unwrap().last_sequence().unwrap(), 50);
}

#[tokio::test]
async fn a_backup_comes_back_from_a_stream_of_bytes() {
    let (folder, backups) = (folder(), folder());
    let journal = open(folder.path());
    publish_all(&journal, 0..20).await;
    let [into, back] = ["one", "back"].map(|name| backups.path().join(name));
    let copied = Reader::open(folder.path()).unwrap().back_up(&into).unwrap();
    let bytes = std::fs::read(into.join("journal.db")).unwrap();
    assert_eq!(restore(&bytes[..], &back).unwrap(), copied);
    // As a file that was copied beside its log looks.
    journal.close().await;
    let bytes = std::fs::read(folder.path().join("journal.db")).unwrap();
    restore(&bytes[..], &backups.path().join("copied")).unwrap();
    assert_eq!(std::fs::read_dir(backups.path().join("copied")).unwrap().count(), 1);

    for bytes in [&bytes[..bytes.len() / 2], &b"no database"[..], b""] {
        let broken = backups.path().join("broken");
        let error = restore(bytes, &broken).unwrap_err();
        assert!(matches!(error, BackupError::Unusable { .. } | BackupError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read_dir(&broken).unwrap().count(), 0, "nothing is left of it");
    }
}

#[tokio::test]
async fn a_copy_overwrites_nothing() {
    let (folder, backups) = (folder(), folder());
    let journal = open(folder.path());
    publish_all(&journal, 0..3).await;
    let reader = Reader::open(folder.path()).unwrap();
    for occupied in [folder.path(), backups.path()] {
        std::fs::write(backups.path().join("relay.json"), "{}").unwrap();
        let error = reader.back_up(occupied).unwrap_err();
        assert!(matches!(error, BackupError::Occupied { .. }), "{error}");
    }
    assert!(matches!(reader.back_up(&backups.path().join("relay.json")), Err(BackupError::Io { .. })));
    // What one that was killed has left is in nobody's way.
    let killed = backups.path().join("killed");
    std::fs::create_dir(&killed).unwrap();
    std::fs::write(killed.join("journal.db.part"), "half").unwrap();
    assert_eq!(reader.back_up(&killed).unwrap().events, 3);
    // SQLite takes its journal for what is to be taken back of the next one.
    let bytes = std::fs::read(killed.join("journal.db")).unwrap();
    std::fs::remove_file(killed.join("journal.db")).unwrap();
    std::fs::write(killed.join("journal.db.part-journal"), [0xd9; 1024]).unwrap();
    assert_eq!(restore(&bytes[..], &killed).unwrap().events, 3);
    assert_eq!(std::fs::read_dir(&killed).unwrap().count(), 1);
    assert!(matches!(Reader::open(&backups.path().join("none")), Err(OpenError::Missing { .. })));
}

#[tokio::test]
async fn nothing_stays_of_copies_without_a_name_but_of_one_that_is_being_made() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..3).await;
    let killed = folder.path().join("backup-4711.tmp");
    let leave = || {
        std::fs::create_dir(&killed).unwrap();
        std::fs::write(killed.join("journal.db.part"), "half").unwrap();
    };
    leave();
    let (contents, mut copy) = Reader::open(folder.path()).unwrap().back_up_unnamed().unwrap();
    assert!(contents.events == 3 && !killed.exists());
    let left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().contains("backup")).count(), 0);
    let back = super::folder();
    assert_eq!(restore(&mut copy, &back.path().join("back")).unwrap().events, 3);

    journal.close().await;
    leave();
    let making = folder.path().join("backup-4712.tmp");
    std::fs::create_dir(&making).unwrap();
    let held = std::fs::File::open(&making).unwrap();
    held.lock().unwrap();
    let journal = open(folder.path());
    assert!(!killed.exists() && making.exists());
    journal.close().await;
}

#[tokio::test]
async fn an_event_that_was_overwritten_is_told_and_copied_as_it_is() {
    let (folder, backups) = (folder(), folder());
    let journal = open(folder.path());
    publish_all(&journal, 0..100).await;
    journal.execute("UPDATE event SET payload = substr(payload, 1, 20) || 'x' || substr(payload, 22) WHERE sequence = 7; UPDATE event SET payload = (SELECT payload FROM event WHERE sequence = 9) WHERE sequence = 8").await;
    let reader = Reader::open(folder.path()).unwrap();
    for contents in [reader.examine().unwrap(), reader.back_up(&backups.path().join("one")).unwrap()] {
        assert_eq!((contents.events, contents.faults.is_empty()), (100, true));
        assert_eq!((contents.unreadable, &contents.first_unreadable[..]), (2, &[7, 8][..]));
    }
}

#[tokio::test]
async fn a_damaged_journal_is_told() {
    let folder = folder();
    let journal = open(folder.path());
    publish_all(&journal, 0..500).await;
    journal.close().await;
    let file = folder.path().join("journal.db");
    let sound = Reader::open(folder.path()).unwrap().examine().unwrap();
    assert_eq!((sound.events, sound.faults.is_empty()), (500, true));
    // An index that lacks a row.
    let db = Connection::open(&file).unwrap();
    db.execute_batch(
        "INSERT INTO dead_letter VALUES (1, 'c', 1, x'00', 's', 0, '{}', 'why', 1, 0);
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'died_at)', 'attempts)') WHERE name = 'dead_letter_died_at'",
    )
    .unwrap();
    drop(db);
    let damaged = Reader::open(folder.path()).unwrap().examine().unwrap();
    assert!(!damaged.faults.is_empty(), "{damaged:?}");
}
