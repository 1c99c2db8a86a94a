//! `upcall doctor`: findings, grade and exit status, of systems that are made wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tokio::time::timeout;
use upcall_bus::conformance::message;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Publisher, Start};
use upcall_bus_journal::{Journal, Options};
use upcall_tests::disk::SmallDisk;
use upcall_tests::executable::{PATIENCE, Running};
use upcall_tests::nats::{self, NatsOptions, NatsServer};
use upcall_tests::{executable, skip};

/// What depends on the disk that the tests run on.
const OF_THIS_DISK: [&str; 4] = ["disk-in-memory", "disk-of-container", "disk-nearly-full", "journal-outgrows-disk"];

/// A route and a gateway with which nothing is wrong.
const WELL_KEPT: &str =
    "[keys]\nfetch = false\n[[route]]\nname = \"a\"\npath = \"/oss/a\"\nbuckets = [\"examplebucket\"]\n";

fn doctor(file: &Path, more: &[&str]) -> Output {
    Command::new(executable::path()).arg("doctor").arg("-c").arg(file).args(more).output().unwrap()
}

/// A configuration of this text, which is put before what is well kept.
fn write(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("upcall.toml");
    std::fs::write(&file, format!("{text}\n{WELL_KEPT}")).unwrap();
    file
}

/// What `--json` shows, and the exit status. No delay of a consumer is forgiven.
fn examine(file: &Path) -> (Value, Option<i32>) {
    let output = doctor(file, &["--json", "--behind", "0s"]);
    let report = String::from_utf8(output.stdout).unwrap();
    let report = serde_json::from_str(&report)
        .unwrap_or_else(|error| panic!("{error}: {report}{}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code())
}

/// Severities and names of the findings.
fn found(report: &Value) -> Vec<(&str, &str)> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| (finding["severity"].as_str().unwrap(), finding["name"].as_str().unwrap())).collect()
}

#[track_caller]
fn has(file: &Path, severity: &str, name: &str) {
    let (report, status) = examine(file);
    assert!(found(&report).contains(&(severity, name)), "no {name} in {report:#}");
    assert!(severity == "note" || status == Some(1), "{status:?}: {report:#}");
}

fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("in time") });
}

/// A journal with one event, which a consumer has not settled, or has given up.
fn journal(folder: &Path, consumer: &str, dead: bool) {
    run(async {
        let journal = Journal::open(Options::new(folder.join("journal"))).unwrap();
        let spec = ConsumerSpec { name: consumer.parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };
        let mut reader = journal.subscribe(&spec).await.unwrap();
        journal.publish(message(1), Deadline::after(PATIENCE)).await.unwrap();
        let delivery = reader.next(1).await.unwrap().remove(0);
        if dead {
            delivery.dead_letter("it has no table").await.unwrap();
        }
        drop(reader);
        journal.close().await;
    });
}

#[test]
fn a_well_kept_journal_has_nothing_worse_than_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[bus]\njournal = { folder = \"journal\", retention = { size = \"1MiB\" } }");
    let (report, _) = examine(&file);
    assert!(found(&report).contains(&("note", "journal-missing")), "{report:#}");
    assert!(!folder.path().join("journal").exists(), "looking makes nothing");
    run(async { Journal::open(Options::new(folder.path().join("journal"))).unwrap().close().await });
    let (report, status) = examine(&file);
    let mut worse = found(&report);
    worse.retain(|(severity, name)| *severity != "note" && !OF_THIS_DISK.contains(name));
    assert_eq!(worse, [], "{report:#}");
    if !found(&report).iter().any(|(_, name)| OF_THIS_DISK.contains(name)) {
        assert_eq!((&report["grade"], status), (&Value::from("A"), Some(0)));
        assert_eq!(found(&report), [("note", "signature-only")]);
        let words = String::from_utf8(doctor(&file, &[]).stdout).unwrap();
        assert!(words.contains("grade A (0 harm, 0 risk, 1 note)") && words.contains("Remedy: "), "{words}");
    }
}

#[test]
fn what_a_configuration_allows_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        "[gateway]\nadmin = \"0.0.0.0:9090\"\n[bus]\njournal = { retention = { drop_unsettled = true, size = \"900TB\" } }",
    );
    for name in ["admin-open", "journal-drops-unsettled", "journal-outgrows-disk"] {
        has(&file, "risk", name);
    }
    has(&file, "note", "signature-only");
    std::fs::write(&file, "[[route]]\nname = \"b\"\npath = \"/oss/b\"\nbucket_from_header = true\n").unwrap();
    has(&file, "risk", "bucket-from-header");
    has(&file, "note", "any-bucket");
    has(&file, "note", "keys-fetched");
}

/// There, Prometheus has to reach it; whether a policy keeps others off can't be seen.
#[test]
fn an_admin_port_on_all_addresses_is_a_note_in_a_pod() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "[gateway]\nadmin = \"0.0.0.0:9090\"\n");
    let mut command = Command::new(executable::path());
    command.arg("doctor").arg("-c").arg(&file).arg("--json").env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let report = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert!(found(&report).contains(&("note", "admin-in-pod")), "{report:#}");
    assert!(!found(&report).contains(&("risk", "admin-open")), "{report:#}");
    has(&file, "risk", "admin-open");
}

#[test]
fn who_is_behind_in_a_journal_is_found() {
    let catalog = "[[consumer]]\nname = \"catalog\"\nsql = { url = \"sqlite://catalog.db\" }";
    let bus = "[bus]\njournal = \"journal\"";
    let folder = tempfile::tempdir().unwrap();
    journal(folder.path(), "catalog", false);
    has(&write(folder.path(), &format!("{bus}\n{catalog}")), "risk", "journal-consumer-behind");
    has(&write(folder.path(), bus), "note", "journal-consumer-forgotten");

    let folder = tempfile::tempdir().unwrap();
    journal(folder.path(), "catalog", true);
    has(&write(folder.path(), &format!("{bus}\n{catalog}")), "risk", "journal-dead-letters");

    // Read though NATS is not there; what could not be looked at is said.
    let folder = tempfile::tempdir().unwrap();
    journal(folder.path(), "relay", false);
    let nats = "nats = { url = \"nats://127.0.0.1:1\", ack = \"journal\", sync_hold = \"0s\" }";
    let (report, status) = examine(&write(folder.path(), &format!("{bus}\n{nats}")));
    assert!(found(&report).contains(&("risk", "relay-behind")), "{report:#}");
    assert_eq!((&report["grade"], status), (&Value::Null, Some(2)));
    assert!(report["unseen"][0].as_str().unwrap().contains("onnection refused"), "{report:#}");
}

#[test]
fn a_journal_in_memory_and_a_full_disk_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("disk"), 8) else {
        return skip("a disk in memory: it can't be mounted here");
    };
    let file = write(folder.path(), &format!("[bus]\njournal = {:?}", disk.path().join("journal")));
    has(&file, "harm", "disk-in-memory");
    has(&file, "harm", "disk-full");
    assert_eq!(examine(&file).0["grade"], "F");
}

#[test]
fn what_cannot_be_looked_at_is_no_good_grade() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(doctor(&folder.path().join("none.toml"), &[]).status.code(), Some(2));
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    std::fs::write(folder.path().join("journal/journal.db"), "this is no database, and longer than its head").unwrap();
    let (report, status) = examine(&write(folder.path(), "[bus]\njournal = \"journal\""));
    assert_eq!((&report["grade"], status), (&Value::Null, Some(2)), "{report:#}");
    assert!(report["unseen"][0].as_str().unwrap().starts_with("the journal: "), "{report:#}");
}

#[test]
fn a_system_on_nats_gets_its_grade() {
    if nats::is_missing("the doctor on NATS") {
        return;
    }
    let options = NatsOptions { jetstream: "sync_interval: always".to_owned(), ..NatsOptions::default() };
    let server = NatsServer::start_with(&options);
    let (url, monitor) = (server.url(), server.monitor_url());
    let folder = tempfile::tempdir().unwrap();
    let catalog = "[[consumer]]\nname = \"catalog\"\nsql = { url = \"sqlite://catalog.db\" }";
    let file = write(folder.path(), &format!("[bus.nats]\nurl = {url:?}\nmonitor = {monitor:?}\n{catalog}"));
    let (report, status) = examine(&file);
    assert!(found(&report).contains(&("harm", "stream-missing")), "{report:#}");
    assert_eq!((&report["grade"], status), (&Value::from("F"), Some(1)));
    let words = String::from_utf8(doctor(&file, &[]).stdout).unwrap();
    let [of_nats, of_the_file] = ["harm  stream-missing", "note  signature-only"].map(|line| words.find(line).unwrap());
    assert!(of_nats < of_the_file, "the worst comes first, wherever it was found:\n{words}");

    run(async {
        let bus = upcall_bus_nats::NatsBus::connect(upcall_bus_nats::Options::new(server.url())).await.unwrap();
        bus.link().wait_for(|link| link.connected).await.unwrap();
        bus.provision(&[]).await.unwrap();
    });
    let (report, status) = examine(&file);
    assert_eq!((&report["grade"], status), (&Value::from("A"), Some(0)), "{report:#}");
    let mut names: Vec<_> = found(&report).into_iter().map(|(_, name)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["consumer-missing", "one-server", "signature-only"]);
}

#[test]
fn a_server_that_is_being_started_is_waited_for_while_what_is_here_is_shown() {
    if nats::is_missing("the doctor who waits") {
        return;
    }
    let server = NatsServer::start();
    server.kill();
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), &format!("[bus.nats]\nurl = {:?}", server.url()));
    let mut doctor = Running::start(&["doctor", "-c", file.to_str().unwrap(), "--wait", "1h"]);
    let is_there = |words: &'static str| move |line: &str| line.contains(words).then_some(());
    // On two outputs, in either order.
    let mut awaited = vec![["signature-only", "note"], ["waiting for NATS, 1h at most", "onnection refused"]];
    doctor.wait_for("local finding and word that it waits", |line| {
        awaited.retain(|words| !words.iter().all(|word| line.contains(word)));
        awaited.is_empty().then_some(())
    });
    server.restart();
    doctor.wait_for("finding about NATS", is_there("stream-missing"));
    doctor.wait_for("grade", is_there("grade F"));
}

#[test]
fn a_server_that_refuses_the_login_is_not_waited_for() {
    if nats::is_missing("the doctor who is not let in") {
        return;
    }
    let config = "authorization { users: [{ user: upcall, password: right }] }".to_owned();
    let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), &format!("[bus.nats]\nurl = {:?}", server.url()));
    let mut doctor = Running::start(&["doctor", "-c", file.to_str().unwrap(), "--wait", "1h"]);
    let refused = format!("could not look at NATS: NATS at {} refused the login ", server.address());
    doctor.wait_for("refusal", |line| line.starts_with(&refused).then_some(()));
    doctor.wait_for("end", |line| line.contains("no grade, since not everything could be looked at").then_some(()));
}
