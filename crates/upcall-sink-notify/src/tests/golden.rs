//! The form of every message, as it stands in `golden/`. A test that finds a difference writes the file anew and fails:
//! look at the difference, and at the service's documentation, before it is committed.

use std::path::Path;
use std::time::Duration;

use upcall_event::Event;

use super::{chats, event, mail};
use crate::mail::message;
use crate::notice::{Digest, Message, Notice};
use crate::{Chat, ChatKind, chat};

/// A key that is long, in several scripts, with an emoji of several characters.
pub(crate) const LONG: &str = "photos/2026/01/年度报告与财务摘要/👩🏽‍💻-Übersicht_der_Aufnahmen-final-final-v2.(copy).with-a-very-long-name-that-goes-on-and-on-without-any-space-in-it.jpg";

fn upload() -> Notice {
    let message = Message { link: Some("https://cdn.example.com/${object}".parse().unwrap()), ..Message::default() };
    message.one(&event("exampledir/exampleobject.jpg"))
}

fn custom() -> Notice {
    let message = Message {
        title: Some("${vars.user} sent ${object}".parse().unwrap()),
        text: Some("It has ${size} and came at ${event.time}.\nPlease look at it & say <yes>.".parse().unwrap()),
        link: None,
    };
    message.one(&event("a*b_c`d[e](f)<@U1> @everyone & <!here>.txt"))
}

fn digest() -> Notice {
    let events: Vec<Event> = (0..37).map(|number| event(&format!("exampledir/{number:02}.jpg"))).collect();
    let mut events: Vec<&Event> = events.iter().collect();
    let long = event(LONG);
    events[1] = &long;
    let digest = Digest { window: Duration::from_secs(60), list: 5.try_into().unwrap() };
    digest.many("0123456789abcdef0123456789abcdef".into(), &events, "2026-01-01T00:00:30Z".parse().unwrap())
}

fn cases() -> [(&'static str, Notice); 3] {
    [("upload", upload()), ("message", custom()), ("digest", digest())]
}

#[track_caller]
fn check(name: &str, text: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    let is_same = std::fs::read_to_string(&path).ok().as_deref() == Some(text);
    if !is_same {
        std::fs::write(&path, text).unwrap();
        eprintln!("{} was not so and has been written anew", path.display());
    }
    is_same
}

fn body(kind: ChatKind, notice: &Notice) -> serde_json::Value {
    let chat = Chat { kind, endpoint: "https://chat.example.com/hook".parse().unwrap() };
    chat::post(&chat, notice, "2026-01-01T00:00:00Z".parse().unwrap()).unwrap().body
}

#[test]
fn every_chat_message_has_its_golden_form() {
    let mut all_same = true;
    for (case, notice) in cases() {
        for (name, kind) in chats() {
            let text = serde_json::to_string_pretty(&body(kind, &notice)).unwrap() + "\n";
            all_same &= check(&format!("{name}-{case}.json"), &text);
        }
    }
    assert!(all_same, "golden files were written anew: look at them, and commit them");
}

#[test]
fn every_mail_has_its_golden_form() {
    let mut all_same = true;
    for (case, notice) in cases() {
        let bytes = message(&mail(), &notice).unwrap().formatted();
        let parsed = mailparse::parse_mail(&bytes).unwrap();
        let [plain, html] = &parsed.subparts[..] else { panic!("it has a text and a page") };
        // The date is now, the boundary is at random.
        let headers =
            parsed.headers.iter().filter(|header| !matches!(header.get_key().as_str(), "Date" | "Content-Type"));
        let head: String = headers.map(|header| format!("{}: {}\n", header.get_key(), header.get_value())).collect();
        all_same &=
            check(&format!("mail-{case}.txt"), &format!("{head}\n{}", plain.get_body().unwrap().replace('\r', "")));
        all_same &= check(&format!("mail-{case}.html"), &html.get_body().unwrap().replace('\r', ""));
    }
    assert!(all_same, "golden files were written anew: look at them, and commit them");
}

/// Made with `openssl dgst -sha256 -hmac`, as the services describe it.
#[test]
fn signatures_are_those_that_the_services_describe() {
    let endpoint = "https://chat.example.com/robot/send?access_token=t".parse().unwrap();
    let now = "2026-01-01T00:00:00.123Z".parse().unwrap();
    let kind = ChatKind::DingTalk { secret: Some("SECexample".into()) };
    let signed = chat::post(&Chat { kind, endpoint }, &upload(), now).unwrap();
    assert_eq!(
        signed.endpoint,
        "https://chat.example.com/robot/send?access_token=t&timestamp=1767225600123&sign=zQ6HFatXGq96PSaG41bwa5JMFcxSYo8%2FBtIbkNsiWw8%3D".parse().unwrap()
    );
    let kind = ChatKind::Feishu { secret: Some("example".into()) };
    let signed =
        chat::post(&Chat { kind, endpoint: "https://chat.example.com/hook".parse().unwrap() }, &upload(), now).unwrap();
    assert_eq!(
        (&signed.body["timestamp"], &signed.body["sign"]),
        (&"1767225600".into(), &"gnC3ieRHHcA1jqbmnA5BR+Arg+Zdj9ZTcJ4dUA4sr4o=".into())
    );
}

#[test]
fn what_waited_through_an_outage_is_not_called_of_the_last_minute() {
    let (first, mut second) = (event("a"), event("b"));
    second.time = "2026-01-01T00:10:00Z".parse().unwrap();
    second.data.bucket = "other".into();
    let digest = Digest { window: Duration::from_secs(300), list: 1.try_into().unwrap() };
    let title = |now: &str| digest.many(String::new(), &[&first, &second], now.parse().unwrap()).title.line();
    assert_eq!(title("2026-01-01T00:05:00Z"), "2 uploads in 2 buckets in the last 5 minutes");
    assert_eq!(
        title("2026-01-01T01:00:00Z"),
        "2 uploads in 2 buckets from 2026-01-01 00:00:00 UTC to 2026-01-01 00:10:00 UTC"
    );
}
