//! Mail, received by a real server.

use std::path::Path;

use serde_json::Value;
use upcall_tests::http::wait_until;

use crate::world::{TRICK, Told, World, python};

/// A certificate for `localhost`, which is its own authority, and its key.
fn certificate(folder: &Path) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let [certificate, key] = [path("mail.pem"), path("mail.key")];
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    [certificate, key]
}

fn consumer(security: &str, port: u64, to: &str, password: &str) -> String {
    format!(
        "[[consumer]]\nname = \"mail\"\n[consumer.notify.mail]\nserver = \"localhost:{port}\"\nsecurity = \"{security}\"\n\
         user = \"upcall\"\npassword = \"{password}\"\nca = \"mail.pem\"\n\
         from = \"Upcall <upcall@example.com>\"\nto = {to}\n"
    )
}

fn header<'m>(mail: &'m Value, name: &str) -> Vec<&'m str> {
    let headers = mail["headers"].as_array().unwrap().iter();
    headers.filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap()).collect()
}

fn is_received(security: &str) {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path());
    let mut mailbox = Told::start(&python, "mailbox.py", &[security, &certificate, &key]);
    let to = "[\"ops@example.com\", \"Büro <office@example.org>\"]";
    let consumer = consumer(security, mailbox.port, to, "hunter2");
    let title = "[consumer.notify]\ntitle = \"${object}\"\n";
    let mut world = World::start(
        folder.path(),
        &consumer.replace("[consumer.notify.mail]", &format!("{title}[consumer.notify.mail]")),
    );
    world.upload(TRICK, "5CF3E7821AB22D0FDB86704D");
    let mail = mailbox.next();
    assert_eq!(mail["defects"], Value::Array(Vec::new()), "{mail}");
    assert_eq!((&mail["tls"], &mail["from"]), (&true.into(), &"upcall@example.com".into()));
    assert_eq!(mail["to"], serde_json::json!(["ops@example.com", "office@example.org"]));
    let [subject] = header(&mail, "Subject")[..] else { panic!("one subject: {mail}") };
    assert!(
        subject.contains("<!here>") && subject.contains("Bcc: x@evil.example") && subject.contains("年度"),
        "{subject}"
    );
    assert!(header(&mail, "Bcc").is_empty(), "{mail}");
    let [id] = header(&mail, "Message-ID")[..] else { panic!("one id: {mail}") };
    let (id, domain) = id.trim_matches(['<', '>']).split_once('@').unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && domain == "example.com", "{mail}");
    assert_eq!(header(&mail, "Auto-Submitted"), ["auto-generated"]);
    let (plain, html) = (mail["plain"].as_str().unwrap(), mail["html"].as_str().unwrap());
    assert!(plain.contains("Size: 1.2 MiB") && plain.contains("From: 203.0.113.7"), "{plain}");
    assert!(html.contains("&lt;!here&gt;") && !html.contains("<!here>") && html.contains("1.2 MiB"), "{html}");

    // A second one goes by the same connection, or by another: it arrives.
    world.upload("second.jpg", "5CF3E7821AB22D0FDB86704E");
    assert_eq!(header(&mailbox.next(), "Subject"), ["second.jpg"]);
    assert!(world.process.terminate().success());
}

#[test]
fn mail_arrives_by_starttls() {
    is_received("starttls");
}

#[test]
fn mail_arrives_by_tls() {
    is_received("tls");
}

#[test]
fn a_wrong_password_costs_no_event_and_a_mailbox_that_is_not_there_is_a_dead_letter() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path());
    let mailbox = Told::start(&python, "mailbox.py", &["starttls", &certificate, &key]);
    let wrong = consumer("starttls", mailbox.port, "[\"ops@example.com\"]", "hunter3");
    let mut world = World::start(folder.path(), &wrong);
    world.upload("first.jpg", "5CF3E7821AB22D0FDB86704D");
    world.process.wait_for("word of the outage", |line| {
        let is_it = line.contains("the target is out of order") && line.contains("535");
        assert!(!line.contains("hunter3"), "{line}");
        is_it.then_some(())
    });
    assert!(world.process.terminate().success());
    assert!(!world.dead().contains("first.jpg"), "{}", world.dead());

    let gone = consumer("starttls", mailbox.port, "[\"nobody@example.com\"]", "hunter2");
    let mut world = World::start(folder.path(), &gone);
    wait_until("the dead letter", || world.dead().contains("refuses the mail to nobody@example.com"));
    assert!(world.dead().contains("no such mailbox"), "{}", world.dead());
    assert!(world.process.terminate().success());
}

#[test]
fn a_mailbox_that_is_no_more_silences_nobody_else() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path());
    let mut mailbox = Told::start(&python, "mailbox.py", &["starttls", &certificate, &key]);
    let to = "[\"ops@example.com\", \"nobody@example.com\", \"office@example.com\"]";
    let mut world = World::start(folder.path(), &consumer("starttls", mailbox.port, to, "hunter2"));
    world.upload("first.jpg", "5CF3E7821AB22D0FDB86704D");
    for reached in ["ops@example.com", "office@example.com"] {
        assert_eq!(mailbox.next()["to"], serde_json::json!([reached]));
    }
    world.process.wait_for("word of the one who is not there", |line| {
        (line.contains("nobody@example.com") && line.contains("no such mailbox")).then_some(())
    });
    world.upload("second.jpg", "5CF3E7821AB22D0FDB86704E");
    assert_eq!(mailbox.next()["to"], serde_json::json!(["ops@example.com"]));
    assert!(world.process.terminate().success());
    assert!(!world.dead().contains("jpg"), "{}", world.dead());
}

#[test]
fn a_server_that_can_not_be_reached_or_has_no_starttls_is_named_with_what_to_do() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate(folder.path());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = u64::from(nobody.local_addr().unwrap().port());
    drop(nobody);
    let mut world = World::start(folder.path(), &consumer("starttls", port, "[\"ops@example.com\"]", "hunter2"));
    let place = format!("the mail server localhost:{port}: ");
    world.process.wait_for("word of the outage", |line| {
        (line.contains("the target is out of order") && line.contains(&place)).then_some(())
    });
    assert!(world.process.terminate().success());
    let plain = Told::start(&python, "mailbox.py", &["none", &certificate, &key]);
    let consumer = consumer("starttls", plain.port, "[\"ops@example.com\"]", "hunter2");
    let mut world = World::start(folder.path(), &consumer);
    world.process.wait_for("what to do", |line| line.contains("it offers no STARTTLS: choose").then_some(()));
    assert!(world.process.terminate().success());
}
