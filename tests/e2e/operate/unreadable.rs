//! Dead letters that can't be read, on the journal and on NATS.

use serde_json::Value;
use upcall_tests::nats;

use super::refused;
use super::site::{Site, in_runtime, text};

#[test]
fn a_dead_letter_that_cannot_be_read_is_listed_and_dropped_on_the_journal() {
    let site = Site::on_the_journal();
    let spoil = |numbers: &[String]| {
        let journal = rusqlite::Connection::open(site.file.with_file_name("journal").join("journal.db")).unwrap();
        let spoilt = "UPDATE dead_letter SET payload = '{}' WHERE number = ?1";
        assert_eq!(journal.execute(spoilt, [&numbers[0]]).unwrap(), 1);
    };
    a_dead_letter_that_cannot_be_read_is_listed_and_dropped(&site, spoil);
}

#[test]
fn a_dead_letter_that_cannot_be_read_is_listed_and_dropped_on_nats() {
    if nats::is_missing("unreadable dead letters on NATS") {
        return;
    }
    let site = Site::on_nats();
    let spoil = |numbers: &[String]| {
        in_runtime(async {
            let client = async_nats::connect(site.nats.as_ref().unwrap().url()).await.unwrap();
            let context = async_nats::jetstream::new(client);
            let dead = context.get_stream("UPCALL_DEAD").await.unwrap();
            let letter = dead.get_raw_message(numbers[0].parse().unwrap()).await.unwrap();
            let mut headers = letter.headers.clone();
            headers.insert("Upcall-Attempts", "\u{9b}many");
            headers.insert("Nats-Msg-Id", "another");
            let sent = context.publish_with_headers("upcall.dead.catalog", headers, letter.payload).await;
            sent.unwrap().await.unwrap();
        });
        text(&site.upcall(&["dead", "drop", &numbers[0]]));
    };
    a_dead_letter_that_cannot_be_read_is_listed_and_dropped(&site, spoil);
}

fn a_dead_letter_that_cannot_be_read_is_listed_and_dropped(site: &Site, spoil: impl Fn(&[String])) {
    let mut served = site.serve();
    site.refuse("bad");
    for object in ["bad-1", "bad-2"] {
        site.upload(&served, object);
    }
    let whole = site.dead_letters(2);
    spoil(&whole.iter().map(|letter| letter["number"].to_string()).collect::<Vec<_>>());
    let letters = site.dead_letters(2);
    let (unreadable, readable): (Vec<&Value>, Vec<&Value>) =
        letters.iter().partition(|letter| !letter["unreadable"].is_null());
    let ([unreadable], [readable]) = (&unreadable[..], &readable[..]) else { panic!("{letters:?}") };
    assert_eq!((&unreadable["consumer"], &unreadable["reason"]), (&"catalog".into(), &whole[0]["reason"]));
    assert_eq!(*readable, &whole[1]);
    let number = unreadable["number"].to_string();
    let list = text(&site.upcall(&["dead", "list"]));
    let line = list.lines().find(|line| line.starts_with(&number)).unwrap_or_else(|| panic!("{list}"));
    assert!(line.contains("catalog") && line.contains("can't be read: "), "{line}");
    let shown = text(&site.upcall(&["dead", "show", &number]));
    assert!(shown.contains("can't be read: ") && shown.contains("we want no such thing"), "{shown}");
    assert!(!(list + &shown).contains('\u{9b}'), "what was spoilt cannot steer the terminal");

    site.sql("DROP TRIGGER refuse");
    // It does not keep the others from being retried.
    let retried = site.upcall(&["dead", "retry", "--all", "--yes"]);
    assert!(String::from_utf8_lossy(&retried.stdout).contains("1 dead letter given again"), "{retried:?}");
    refused(&retried, &format!("dead letter {number} can't be given again: "));
    assert_eq!(site.dead_letters(1)[0]["number"], unreadable["number"]);
    assert!(text(&site.upcall(&["dead", "drop", &number])).contains("1 dead letter dropped"));
    site.dead_letters(0);
    assert!(served.terminate().success());
}
