//! Following the events of a bus.

use async_nats::jetstream;
use serde_json::Value;
use upcall_bus::{Deadline, Message, Publisher};
use upcall_bus_nats::{NatsBus, Options};
use upcall_event::{Event, SubjectTemplate};
use upcall_tests::executable::{PATIENCE, Running};
use upcall_tests::nats;

use super::site::{Site, event, in_runtime, text};

#[test]
fn a_tail_of_nats_shows_what_is_there_and_what_comes() {
    if nats::is_missing("a tail of NATS") {
        return;
    }
    let site = Site::on_nats();
    let mut served = site.serve();
    for object in ["first", "second"] {
        site.upload(&served, object);
    }
    let shown = text(&site.upcall(&["tail", "--no-follow", "--json", "-n", "2"]));
    let objects: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.iter().map(|event| &event["data"]["object"]).collect::<Vec<_>>(), ["first", "second"]);
    let filter = "upcall.uploads.examplebucket.>";
    let mut tail = Running::start(&["tail", "-c", site.file.to_str().unwrap(), "--filter", filter]);
    tail.wait_for("event that is there", |line| line.contains("examplebucket/second").then_some(()));
    site.upload(&served, "third");
    tail.wait_for("event that comes", |line| line.contains("examplebucket/third").then_some(()));
    tail.kill();
    let none = text(&site.upcall(&["tail", "--no-follow", "--filter", "upcall.uploads.otherbucket.>"]));
    assert_eq!(none, "");
    assert!(served.terminate().success());
}

/// Somebody may delete a stream, and make it anew, while it is followed.
#[test]
fn a_tail_goes_on_with_a_stream_that_was_made_anew() {
    if nats::is_missing("a tail of a stream that is made anew") {
        return;
    }
    let site = Site::on_nats();
    text(&site.upcall(&["provision"]));
    for object in ["one", "two", "three"] {
        publish(&site, event(object));
    }
    let mut tail = Running::start(&["tail", "-c", site.file.to_str().unwrap()]);
    tail.wait_for("event that is there", |line| line.contains("examplebucket/three").then_some(()));
    in_runtime(async {
        let client = async_nats::connect(site.nats.as_ref().unwrap().url()).await.unwrap();
        jetstream::new(client).delete_stream("UPCALL").await.unwrap();
    });
    tail.wait_for("word that it is gone", |line| line.contains("the server has no stream UPCALL").then_some(()));
    text(&site.upcall(&["provision"]));
    publish(&site, event("first of the new ones"));
    // Word and event come out by different ways: either may be read first.
    let (mut has_word, mut has_event) = (false, false);
    tail.wait_for("word that it is another, and an event of it", |line| {
        has_word |= line.contains("the stream was made anew");
        has_event |= line.contains("examplebucket/first of the new ones");
        (has_word && has_event).then_some(())
    });
    let said = tail.rest().iter().filter(|line| line.contains("no stream UPCALL")).count();
    assert_eq!(said, 1, "a fault is told once");
    tail.kill();
}

/// Whoever may publish events, or upload, chooses these texts.
#[test]
fn what_strangers_wrote_cannot_steer_the_terminal() {
    if nats::is_missing("events of strangers") {
        return;
    }
    let site = Site::on_nats();
    text(&site.upcall(&["provision"]));
    let mut strange = event("a\u{9b}2Jb\u{202e}c\u{7f}");
    strange.data.route = "r\u{1b}]0;title\u{7}".to_owned();
    strange.data.mime_type = Some("text\u{85}/plain".to_owned());
    publish(&site, strange.clone());
    for json in [false, true] {
        let shown =
            text(&site.upcall(if json { &["tail", "--no-follow", "--json"] } else { &["tail", "--no-follow"] }));
        let unfit = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(shown.lines().count() == 1 && !shown.contains(unfit), "{shown:?}");
        if json {
            let event: Value = serde_json::from_str(&shown).unwrap();
            assert_eq!(event["data"]["object"], strange.data.object);
            assert_eq!(event["data"]["route"], strange.data.route);
        }
    }
}

fn publish(site: &Site, event: Event) {
    let options = Options::new(site.nats.as_ref().unwrap().url());
    in_runtime(async {
        let bus = NatsBus::connect(options).await.unwrap();
        tokio::time::timeout(PATIENCE, bus.link().wait_for(|link| link.connected)).await.unwrap().unwrap();
        let subject = SubjectTemplate::default().fill(&event).unwrap();
        bus.publish(Message { subject, event }, Deadline::after(PATIENCE)).await.unwrap();
        bus.close().await;
    });
}
