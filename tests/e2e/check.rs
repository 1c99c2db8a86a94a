//! `upcall check`: every mistake at once, each with its place and its remedy.

use std::process::{Command, Output};

use upcall_tests::executable;
use upcall_tests::signer::Signer;

use crate::serve::configuration;

fn check(configuration: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upcall.toml");
    std::fs::write(&file, configuration).unwrap();
    Command::new(executable::path()).arg("check").arg("-c").arg(&file).output().unwrap()
}

#[test]
fn a_valid_file_is_called_valid() {
    let folder = tempfile::tempdir().unwrap();
    let file = configuration(folder.path(), &Signer::new(), "");
    let output = Command::new(executable::path()).arg("check").arg("-c").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!folder.path().join("journal").exists(), "checking starts nothing");
}

#[test]
fn every_mistake_is_reported_at_once_with_its_path() {
    let output = check(
        r#"
        [gateway]
        lisen = "0.0.0.0:8080"
        deadline = "4.5"
        body_max = 1000
        [bus]
        journal = { retention = { age = "week" } }
        [[route]]
        name = "avatars"
        path = "oss/avatars"
        response = { a = "${sise}" }
        require = ["signatur"]
        [[route]]
        name = "avatars"
        path = "/oss/other"
        [[consumer]]
        name = "a b"
        filter = "a..b"
        "#,
    );
    assert!(!output.status.success());
    let report = String::from_utf8(output.stderr).unwrap();
    for expected in [
        "gateway.lisen: is not a known key; did you mean `listen`?",
        "gateway.deadline:",
        "gateway.body_max:",
        "bus.journal.retention.age:",
        "route[0].path:",
        "route[0].response.a: ${sise} is no field of an event",
        "route[0].require:",
        "route[1].name:",
        "consumer[0].name:",
        "consumer[0].filter:",
        "consumer[0]: has no sink",
    ] {
        assert!(report.contains(expected), "{expected:?} is missing in:\n{report}");
    }
    let line = |told: &str| told.split("line ").nth(1)?.split([',', ':']).next()?.parse::<u32>().ok();
    let lines: Vec<u32> = report.lines().filter_map(line).collect();
    assert!(lines.len() >= 10 && lines.is_sorted(), "they come by their places:\n{report}");
}

#[test]
fn a_program_that_is_not_on_this_machine_is_a_remark() {
    let output = check(
        "[[route]]\nname = \"a\"\npath = \"/a\"\n[[consumer]]\nname = \"thumbnails\"\ncommand = { program = \"./nowhere\" }\n",
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("remark: consumer \"thumbnails\": on this machine its command can't be run"), "{said}");
}

#[test]
fn what_is_kept_can_be_looked_at_without_the_secrets_of_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upcall.toml");
    let text = "[[route]]\nname = \"a\"\npath = \"/a\"\n[[consumer]]\nname = \"people\"\nbatch_max = \"many\"\n\
                notify = { slack = { url = { env = \"UPCALL_TEST_UNSET\" } } }\n";
    std::fs::write(&file, text).unwrap();
    let said = |command: &[&str]| {
        let output = Command::new(executable::path()).args(command).arg("-c").arg(&file).output().unwrap();
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
    };
    assert!(said(&["check"]).contains("2 mistakes"));
    for (command, expected) in [
        (["dead", "list"], "the journal can't be opened"),
        (["quarantine", "list"], "the journal can't be opened"),
        (["tail", "--no-follow"], "the journal can't be opened"),
        (["health", "--ready"], "can't be asked"),
        (["doctor", "--json"], "holds no journal"),
    ] {
        let said = said(&command);
        assert!(said.contains(expected) && !said.contains("mistake"), "{command:?}: {said}");
    }
}

#[test]
fn a_file_that_is_not_toml_or_not_there_is_named() {
    let output = check("[gateway\n");
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && report.contains("upcall.toml") && report.contains("line 1"), "{report}");
    let output = Command::new(executable::path()).args(["check", "-c", "nowhere.toml"]).output().unwrap();
    assert!(
        !output.status.success() && String::from_utf8(output.stderr).unwrap().contains("there is no file nowhere.toml")
    );
}

#[test]
fn a_secret_that_is_empty_in_the_environment_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let more = "[[consumer]]\nname = \"c\"\nsql = { url = { env = \"CATALOG_URL\" }, applied = \"c_applied\" }\n";
    let file = configuration(folder.path(), &Signer::new(), more);
    let check = |value: &str| {
        let mut check = Command::new(executable::path());
        let output = check.args(["check", "-c"]).arg(&file).env("CATALOG_URL", value).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(check("sqlite://catalog.db"), "");
    let said = check("");
    assert!(said.contains("consumer[1].sql.url.env: names CATALOG_URL, which is empty: set it"), "{said}");
}
