//! `upcall health`, where it is asked too early, and where nobody is there.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use upcall_tests::executable::{self, Running};
use upcall_tests::signer::Signer;

use crate::serve::configuration;

/// An address that nobody listens on.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn health(arguments: &[&str]) -> Output {
    Command::new(executable::path()).arg("health").args(arguments).output().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_process_that_is_just_being_started_is_waited_for() {
    let (folder, admin) = (tempfile::tempdir().unwrap(), nobody().to_string());
    let file = configuration(folder.path(), &Signer::new(), "");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("admin = \"127.0.0.1:0\"", &format!("admin = {admin:?}"))).unwrap();
    let file = file.to_str().unwrap();
    assert!(complaint(&health(&["-c", file, "--ready"])).contains("can't be asked"));

    let mut asking = Running::start(&["health", "-c", file, "--ready", "--wait", "1h"]);
    let _serving = Running::start(&["serve", "-c", file]);
    asking.wait_for("word that it is ready", |line| line.contains("\"ready\":true").then_some(()));
    assert!(health(&["--admin", &admin, "--ready"]).status.success());
}

#[test]
fn a_wait_that_is_over_says_why_nothing_is_well() {
    let begun = Instant::now();
    let output = health(&["--admin", &nobody().to_string(), "--wait", "300ms"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(complaint(&output).contains("can't be asked: Connection refused"), "{}", complaint(&output));
}

#[test]
fn who_is_to_be_asked_may_be_said_in_two_ways() {
    let said = complaint(&health(&[]));
    assert!(said.contains("--config <FILE>") && said.contains("--admin <ADDRESS>"), "{said}");
}
