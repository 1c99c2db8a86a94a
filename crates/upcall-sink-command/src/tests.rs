//! What the sink promises, with real programs.

mod target;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use upcall_consumer::conformance::{Published, deliver, upload, upload_of};
use upcall_consumer::{Sink, Verdict};
use upcall_event::Event;

use crate::{CommandSink, Options, Unfit};

/// How long something may take that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes a script that may be run.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("program");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// A folder with a script in it, and the options to run it there.
fn program(text: &str) -> (TempDir, Options) {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { folder: Some(folder.path().into()), ..Options::new(script(folder.path(), text)) };
    (folder, options)
}

async fn verdict(options: Options, published: Published) -> Verdict {
    deliver(&CommandSink::new(options), &[published]).await.remove(0)
}

fn is_retry(verdict: &Verdict, expected: &str) -> bool {
    matches!(verdict, Verdict::Retry { after: None, reason } if reason.contains(expected))
}

/// Whether a process is there and not only waits to be buried.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "{what}: it never came about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_program_gets_the_event_its_arguments_and_a_clean_environment() {
    let (folder, options) = program(r#"cat >event; printf '%s|' "$@" >args; env >env; echo noise"#);
    let args = vec!["a b".to_owned(), "$HOME; `id`".to_owned(), "${object}".to_owned()];
    let options = Options { args, env: [("TOKEN".to_owned(), "t".to_owned())].into(), ..options };
    let published = upload_of(7, "a b/$(id) ü.jpg");
    assert_eq!(verdict(options, published.clone()).await, Verdict::Done);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(Event::from_structured(read("event").as_bytes()).unwrap(), published.event);
    assert_eq!(read("event").matches('\n').count(), 1, "one line, for whoever reads lines");
    assert_eq!(read("args"), "a b|$HOME; `id`|${object}|");
    let env = read("env");
    let id = published.event.id;
    for expected in [
        &format!("UPCALL_EVENT_ID={id}\n"),
        "UPCALL_EVENT_ATTEMPT=1\n",
        "UPCALL_EVENT_SEQUENCE=7\n",
        "UPCALL_EVENT_SUBJECT=upcall.uploads.examplebucket.PutObject\n",
        "UPCALL_EVENT_BUCKET=examplebucket\n",
        "UPCALL_EVENT_OBJECT=a b/$(id) ü.jpg\n",
        "TOKEN=t\n",
        "PATH=",
    ] {
        assert!(env.contains(expected), "{expected} is missing in {env}");
    }
    assert!(!env.contains("CARGO"), "{env}");
}

#[tokio::test]
async fn a_zero_byte_in_a_key_hurts_nobody() {
    let (folder, options) = program("cat >event; env >env");
    assert_eq!(verdict(options, upload_of(1, "a\0b")).await, Verdict::Done);
    assert!(!fs::read_to_string(folder.path().join("env")).unwrap().contains("UPCALL_EVENT_OBJECT"));
}

#[tokio::test]
async fn the_end_of_what_a_program_says_is_the_reason() {
    let (_folder, options) = program("echo first >&2; printf '\\033[31mno such user\\n' >&2; exit 3");
    let said = verdict(options, upload(1)).await;
    assert_eq!(said, Verdict::Retry { after: None, reason: "exit status 3: first [31mno such user".into() });
    let (_folder, options) = program(
        "i=0; while [ $i -lt 3000 ]; do echo 'a line of a long tale' >&2; i=$((i+1)); done; echo the end >&2; exit 65",
    );
    let Verdict::Dead { reason } = verdict(options, upload(1)).await else { panic!("65 is final") };
    assert!(reason.ends_with("the end") && reason.len() < 1100, "{reason}");
}

#[tokio::test]
async fn an_outage_ends_the_batch_and_costs_no_event() {
    let (folder, options) = program("echo run >>runs; echo database away >&2; exit 69");
    let verdicts = deliver(&CommandSink::new(options), &[upload(1), upload(2), upload(3)]).await;
    let away = Verdict::Unavailable { reason: "exit status 69: database away".into() };
    assert_eq!(verdicts, vec![away; 3]);
    assert_eq!(fs::read_to_string(folder.path().join("runs")).unwrap(), "run\n", "the first says it for all");
}

#[tokio::test]
async fn a_program_need_not_read_and_may_close_its_input() {
    for text in ["exit 0", "exec <&-; exit 0", "read -r line; exit 0", "head -c 10 >/dev/null; exit 0"] {
        let (_folder, options) = program(text);
        let mut large = upload(1);
        large.event.data.vars.insert("large".into(), "x".repeat(1 << 20));
        assert_eq!(verdict(options, large).await, Verdict::Done, "{text}");
    }
}

#[tokio::test]
async fn a_program_that_says_much_is_not_held_up() {
    let (_folder, options) = program("head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2; exit 0");
    assert_eq!(verdict(options, upload(1)).await, Verdict::Done);
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_told_to_end_and_says_why() {
    let (_folder, options) = program("trap 'echo interrupted >&2; exit 0' TERM; while :; do sleep 0.05; done");
    let options = Options { timeout: Duration::from_millis(500), ..options };
    let verdict = verdict(options, upload(1)).await;
    assert!(is_retry(&verdict, "it took longer than 500ms and was ended: "), "{verdict:?}");
    assert!(is_retry(&verdict, "interrupted"), "{verdict:?}");
}

#[tokio::test]
async fn a_program_that_does_not_listen_is_killed_with_all_that_it_has_started() {
    let (folder, options) =
        program("trap '' TERM; sleep 300 & echo $! >child; echo $$ >self; while :; do sleep 0.05; done");
    let timeout = Duration::from_millis(1500);
    let options = Options { timeout, kill_after: Duration::from_millis(200), ..options };
    let verdict = verdict(options, upload(1)).await;
    assert!(is_retry(&verdict, "it took longer than 1.5s and was ended"), "{verdict:?}");
    for name in ["self", "child"] {
        let pid = fs::read_to_string(folder.path().join(name)).unwrap();
        until("all are gone", || !is_alive(&pid)).await;
    }
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_ended_and_holds_nothing_up() {
    let (folder, options) = program("sleep 300 & echo $! >child; exit 0");
    let started = Instant::now();
    assert_eq!(verdict(options, upload(1)).await, Verdict::Done);
    assert!(started.elapsed() < Duration::from_secs(100), "it waited for a process that holds the pipes");
    let pid = fs::read_to_string(folder.path().join("child")).unwrap();
    until("the child is gone", || !is_alive(&pid)).await;
}

#[tokio::test]
async fn a_delivery_that_is_dropped_ends_its_program_and_leaves_no_zombie() {
    let (folder, options) = program("sleep 300 & echo $! >child; echo $$ >self.tmp; mv self.tmp self; wait");
    let sink = CommandSink::new(options);
    let (batch, file) = ([upload(1)], folder.path().join("self"));
    tokio::select! {
        verdicts = deliver(&sink, &batch) => panic!("{verdicts:?}"),
        () = until("it runs", || file.exists()) => {}
    }
    for name in ["self", "child"] {
        let pid = fs::read_to_string(folder.path().join(name)).unwrap();
        until("all are gone", || !is_alive(&pid)).await;
    }
    let pid = fs::read_to_string(file).unwrap();
    // The next program's end makes the runtime look after those that nobody waits for.
    until("it is buried", || !Path::new(&format!("/proc/{}", pid.trim())).exists()).await;
}

#[tokio::test]
async fn a_name_that_is_longer_than_a_variable_may_be_hurts_nobody() {
    let (folder, options) = program("cat >event; env >env");
    let published = upload_of(1, &"x".repeat(140_000));
    assert_eq!(verdict(options, published.clone()).await, Verdict::Done);
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(Event::from_structured(read("event").as_bytes()).unwrap(), published.event);
    assert!(!read("env").contains("UPCALL_EVENT_OBJECT") && read("env").contains("UPCALL_EVENT_BUCKET"));
}

/// Runs a program, tells the sink once it runs that it has so long until the consumer is gone, and says what came of it
/// and how long that took.
async fn shut_down(text: &str, kill_after: Duration, time: Duration) -> (TempDir, Verdict, Duration) {
    let (folder, options) = program(&format!("echo $$ >self.tmp; mv self.tmp self; {text}"));
    let sink = CommandSink::new(Options { kill_after, ..options });
    let (batch, file) = ([upload(1), upload(2)], folder.path().join("self"));
    let told = async {
        until("it runs", || file.exists()).await;
        sink.drain(time);
        Instant::now()
    };
    let (mut verdicts, told) = tokio::join!(deliver(&sink, &batch), told);
    assert_eq!(verdicts[0], verdicts[1], "none is begun any more");
    (folder, verdicts.remove(0), told.elapsed())
}

#[tokio::test]
async fn a_shutdown_tells_a_program_to_end_and_gives_it_its_time() {
    let text = "trap 'sleep 0.3; echo tidied >tidied; exit 1' TERM; while :; do sleep 0.05; done";
    let (kill_after, time) = (Duration::from_secs(8), Duration::from_secs(10));
    let (folder, verdict, took) = shut_down(text, kill_after, time).await;
    assert!(matches!(&verdict, Verdict::Unavailable { reason } if reason.contains("shuts down")), "{verdict:?}");
    assert!(folder.path().join("tidied").exists() && took < time, "{took:?}");
    assert!(took >= Duration::from_secs(1), "at first it may end by itself: {took:?}");
}

#[tokio::test]
async fn a_shutdown_waits_no_longer_for_a_program_than_it_may() {
    let text = "trap '' TERM; sleep 300 & echo $! >child; while :; do sleep 0.05; done";
    let time = Duration::from_secs(2);
    let (folder, verdict, took) = shut_down(text, Duration::from_secs(60), time).await;
    assert!(matches!(verdict, Verdict::Unavailable { .. }) && took < time, "{verdict:?} {took:?}");
    for name in ["self", "child"] {
        let pid = fs::read_to_string(folder.path().join(name)).unwrap();
        until("all are gone", || !is_alive(&pid)).await;
    }
}

#[tokio::test]
async fn a_program_that_ends_in_time_is_judged_by_its_exit_status_in_a_shutdown_too() {
    let (folder, options) = program("echo $$ >self.tmp; mv self.tmp self; sleep 0.3; exit 0");
    let (sink, file) = (CommandSink::new(options), folder.path().join("self"));
    let batch = [upload(1)];
    let told = async {
        until("it runs", || file.exists()).await;
        sink.drain(Duration::from_secs(20));
    };
    let (verdicts, ()) = tokio::join!(deliver(&sink, &batch), told);
    assert_eq!(verdicts, [Verdict::Done]);
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_said_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let complaint = |program: &Path| CommandSink::new(Options::new(program)).check().map_err(|error| error.to_string());
    let missing = folder.path().join("nowhere");
    assert_eq!(complaint(&missing).unwrap_err(), format!("the program {} is not there", missing.display()));
    let plain = folder.path().join("plain");
    fs::write(&plain, "text").unwrap();
    assert!(complaint(&plain).unwrap_err().contains("chmod +x"));
    assert!(complaint(folder.path()).unwrap_err().contains("no folder"));
    assert!(complaint(Path::new("no-such-program-anywhere")).unwrap_err().contains("is in PATH"));
    assert_eq!(complaint(Path::new("sh")), Ok(()));
    let nowhere = Options { folder: Some(missing.clone()), ..Options::new("sh") };
    assert!(matches!(CommandSink::new(nowhere).check(), Err(Unfit::NoFolder(folder)) if folder == missing));

    let sink = CommandSink::new(Options::new(&missing));
    assert!(sink.prepare().await.is_err());
    let verdicts = deliver(&sink, &[upload(1)]).await;
    assert!(matches!(&verdicts[..], [Verdict::Unavailable { reason }] if reason.contains("nowhere can't be run")));
}

#[test]
fn options_do_not_show_secrets() {
    let options = Options { env: [("TOKEN".to_owned(), "hunter2".to_owned())].into(), ..Options::new("x") };
    let options = Options { args: vec!["--password=hunter2".to_owned()], ..options };
    let shown = format!("{options:?}");
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
}
