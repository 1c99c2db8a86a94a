//! Every configuration that the documentation shows is one that `upcall check` takes, as it is pasted.

use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};
use upcall_tests::executable::{self, workspace};
use upcall_tests::signer::Signer;

/// What a block without a route or without NATS is added to.
const ROUTE: &str = "[[route]]\nname = \"avatars\"\npath = \"/oss/avatars\"\n";
const NATS: &str = "[bus.nats]\nurl = \"nats://127.0.0.1:4222\"\n";

#[test]
fn every_configuration_in_the_documentation_is_valid() {
    let mut blocks = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for (line, block) in toml_blocks(&text) {
            blocks += 1;
            if let Err(report) = check(&block) {
                panic!("{}, the block at line {line}:\n{block}\n{report}", page.display());
            }
        }
    }
    assert!(blocks >= 10, "only {blocks} blocks were found");
}

#[test]
fn the_page_about_consumers_shows_every_sink() {
    let text = std::fs::read_to_string(workspace().join("docs/consumers.md")).unwrap();
    let shown: String = toml_blocks(&text).into_iter().map(|(_, block)| block).collect();
    let mails_and_chats = ["mail", "slack", "teams", "discord", "dingtalk", "feishu", "wecom", "json"];
    for sink in ["sqlite://", "postgres://", "mysql://", "webhook", "command"].iter().chain(&mails_and_chats) {
        assert!(shown.contains(sink), "there is no block with {sink}");
    }
}

/// The pages that people read; the references are generated.
fn pages() -> Vec<PathBuf> {
    let folders = ["docs", "docs/operations"].map(|folder| std::fs::read_dir(workspace().join(folder)).unwrap());
    let docs = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([workspace().join("README.md")]).collect()
}

/// The blocks of TOML, each with its line.
fn toml_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        match line.trim() {
            "```toml" => {
                inside = true;
                blocks.push((number, String::new()));
            }
            "```" => inside = false,
            _ if inside => {
                let (_, block) = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    blocks
}

/// Runs `upcall check` on a block, with what it takes for granted: a route, NATS, the secrets that it names.
fn check(block: &str) -> Result<(), String> {
    let table: Table = block.parse().map_err(|error| format!("it is not TOML: {error}"))?;
    let mut text = block.to_owned();
    if !table.contains_key("route") {
        text.push_str(ROUTE);
    }
    let asks_over_nats = block.contains("[route.response.request]") || block.contains("response.request");
    if asks_over_nats && !block.contains("[bus.nats]") {
        text.push_str(NATS);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upcall.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(executable::path());
    command.arg("check").arg("-c").arg(&file);
    provide(&Value::Table(table), "", folder.path(), &mut command);
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Provides the variables and files that secrets are read from.
fn provide(value: &Value, key: &str, folder: &Path, command: &mut Command) {
    match value {
        Value::Table(table) if table.len() == 1 => {
            for (how, name) in table {
                match (how.as_str(), name.as_str()) {
                    ("env", Some(name)) => drop(command.env(name, secret(key))),
                    ("file", Some(name)) if !Path::new(name).is_absolute() => {
                        std::fs::write(folder.join(name), secret(key)).unwrap();
                    }
                    _ => provide(name, how, folder, command),
                }
            }
        }
        Value::Table(table) => {
            // A trusted key.
            if let (Some(Value::String(file)), true) = (table.get("file"), table.contains_key("url")) {
                std::fs::write(folder.join(file), Signer::new().public_key_pem()).unwrap();
            }
            table.iter().for_each(|(key, value)| provide(value, key, folder, command));
        }
        Value::Array(values) => values.iter().for_each(|value| provide(value, key, folder, command)),
        _ => {}
    }
}

/// Something that a key takes.
fn secret(key: &str) -> &'static str {
    match key {
        "url" => "https://hooks.example.com/services/T0/B0/x",
        "secrets" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        _ => "secret",
    }
}
