//! Chat.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::{TRICK, Told, World, python};

const SECRETS: [&str; 2] = ["SECexample", "feishu example"];

/// A consumer for each service; `more` is in the `notify` of each.
fn consumers(port: u64, more: &str) -> String {
    let services = [
        ("slack", "", ""),
        ("teams", "", ""),
        ("discord", "", ""),
        ("dingtalk", "?access_token=token", ", secret = \"SECexample\""),
        ("feishu", "", ", secret = \"feishu example\""),
        ("wecom", "?key=key", ""),
    ];
    let consumer = |(name, query, secret): &(&str, &str, &str)| {
        format!(
            "[[consumer]]\nname = \"{name}\"\n[consumer.notify]\n{more}\n\
             {name} = {{ url = \"http://127.0.0.1:{port}/{name}{query}\", allow_networks = [\"127.0.0.1\"]{secret} }}\n"
        )
    };
    services.iter().map(consumer).collect()
}

/// The next message of each service. Nothing may be wrong with any.
fn each(told: &mut Told) -> BTreeMap<String, Value> {
    let mut messages = BTreeMap::new();
    for _ in 0..6 {
        let said = told.next();
        assert!(said["problem"].is_null(), "{said}");
        let before = messages.insert(said["service"].as_str().unwrap().to_owned(), said["message"].clone());
        assert!(before.is_none(), "{said} was said twice");
    }
    messages
}

#[test]
fn every_service_takes_what_it_is_told_and_its_signature() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut told = Told::start(&python, "services.py", &SECRETS);
    let mut world = World::start(folder.path(), &consumers(told.port, "link = \"https://cdn.example.com/${object}\""));
    world.upload(TRICK, "5CF3E7821AB22D0FDB86704D");
    let messages = each(&mut told);
    for (name, message) in &messages {
        let text = message.to_string();
        assert!(text.contains("年度") && text.contains("1.2 MiB") && text.contains("203.0.113.7"), "{name}: {text}");
        assert!(text.contains("https://cdn.example.com/dir/%3C%21here%3E%20%40everyone"), "{name}: {text}");
    }
    // The same upload, reported again, is no news.
    world.upload(TRICK, "5CF3E7821AB22D0FDB86704D");
    world.upload("second.jpg", "5CF3E7821AB22D0FDB86704E");
    for (name, message) in each(&mut told) {
        assert!(message.to_string().contains("second"), "{name}: {message}");
    }
    assert!(world.process.terminate().success());
}

#[test]
fn a_burst_is_one_message_of_each_service_and_no_event_is_lost() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut told = Told::start(&python, "services.py", &SECRETS);
    let digest = "digest = { window = \"5s\", list = 3 }";
    let mut world = World::start(folder.path(), &consumers(told.port, digest));
    (0..37).for_each(|number| world.upload(&format!("{number:02}.jpg"), &format!("5CF3E7821AB22D0FDB8670{number:02}")));
    // On a slow machine the burst may take longer than the window: then there are several, and all are told.
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    while counted.len() < 6 || counted.values().any(|count| *count < 37) {
        let said = told.next();
        assert!(said["problem"].is_null(), "{said}");
        let text = said["message"].to_string();
        let count =
            text.split(" uploads in ").next().and_then(|before| before.rsplit(['"', ' ', '*']).next()?.parse().ok());
        *counted.entry(said["service"].as_str().unwrap().to_owned()).or_default() += count.unwrap_or(1);
    }
    assert!(counted.values().all(|count| *count == 37), "{counted:?}");
    assert!(told.lines().len() < 30, "{:?}", told.lines());
    assert!(world.process.terminate().success());
}
