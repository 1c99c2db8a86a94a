//! The walk of `docs/operations.md`: its configuration, and a callback signed by a key of one's own, as they are pasted.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use upcall_tests::executable::{self, workspace};
use upcall_tests::http::{get, wait_until};

use crate::serve::Served;

#[test]
fn the_walk_can_be_followed_from_the_configuration_to_a_signed_callback() {
    if Command::new("openssl").arg("version").output().is_err() {
        return upcall_tests::skip("the walk: there is no openssl");
    }
    let folder = tempfile::tempdir().unwrap();
    let page = std::fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let [configuration, trust] = ["# upcall.toml", "[[keys.trusted]]"].map(|part| block(&page, "toml", part));
    let [keys, sign] = ["openssl genrsa", "upcall sign 'https"].map(|part| block(&page, "console", part));
    let file = folder.path().join("upcall.toml");
    let here = configuration
        .replace("0.0.0.0:8080", "127.0.0.1:0")
        .replace("127.0.0.1:9090", "127.0.0.1:0")
        .replace("/var/lib/upcall", &folder.path().display().to_string());
    std::fs::write(&file, here).unwrap();
    let checked = Command::new(executable::path()).args(["check", "-c"]).arg(&file).output().unwrap();
    assert!(String::from_utf8_lossy(&checked.stdout).contains("valid. 1 route, 1 consumer"));

    let mut served = Served::start(&file);
    run(folder.path(), &keys);
    std::fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(trust.as_bytes()).unwrap();
    wait_until("the key is trusted", || get(served.admin, "/config").unwrap().json()["reloads"] == 1);
    let command = sign.replace("https://upcall.example.com/oss", &format!("http://{}/oss", served.callbacks));
    for outcome in ["accepted", "duplicate"] {
        let said = run(folder.path(), &command);
        let answer = sign.lines().find(|line| line.starts_with('{')).unwrap();
        assert!(said.starts_with("200 in ") && said.contains(answer), "{said}");
        let counted = format!("upcall_callbacks_total{{route=\"avatars\",outcome=\"{outcome}\"}} 1");
        assert!(get(served.admin, "/metrics").unwrap().text().contains(&counted), "{counted}");
    }
    assert!(served.terminate().success());
}

/// The block of a language that has something in it.
fn block(page: &str, language: &str, part: &str) -> String {
    let fence = format!("```{language}\n");
    let blocks = page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.into_iter().find(|block| block.contains(part)).unwrap_or_else(|| panic!("no block has {part}"))
}

/// Runs a block's one command, which may have several lines. Returns what it prints.
fn run(folder: &Path, block: &str) -> String {
    let (_, command) = block.split_once("$ ").unwrap();
    let mut lines = Vec::new();
    for line in command.lines() {
        lines.push(line);
        if !line.ends_with('\\') {
            break;
        }
    }
    let path = format!("{}:{}", executable::path().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &lines.join("\n")]).current_dir(folder).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
