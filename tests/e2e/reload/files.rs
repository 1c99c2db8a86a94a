//! Files that are emptied, never answer, are half written, or go away.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use upcall_tests::executable;
use upcall_tests::http::wait_until;
use upcall_tests::signer::Signer;

use super::{Site, route, write};
use crate::serve::Served;

/// How long the end may take, where something hangs: far less than whoever stops services waits.
const END_TIME: Duration = Duration::from_secs(8);

/// A route whose service is asked with a token that is in a file.
fn asking(token: &Path) -> String {
    let http = format!("{{ url = \"http://127.0.0.1:9/\", authorization = {{ file = {token:?} }} }}");
    format!("{}[[route]]\nname = \"asking\"\npath = \"/oss/asking\"\nresponse.http = {http}\n", route("one", "first"))
}

fn make_pipe(file: &Path) {
    assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
}

fn refused(site: &Site) -> String {
    site.in_force()["refused"]["reasons"].to_string()
}

#[test]
fn a_secret_that_was_emptied_is_refused_and_the_one_before_stays_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "Bearer first").unwrap();
    let site = Site::start(&asking(&token));
    std::fs::write(&token, "\n").unwrap();
    wait_until("it is refused", || refused(&site).contains("which is empty"));
    assert!(refused(&site).contains("route[1].response.http.authorization.file"), "{}", refused(&site));
    assert_eq!(site.reloads("applied"), 0.0);
    std::fs::write(&token, "Bearer second").unwrap();
    wait_until("it is taken up", || site.reloads("applied") == 1.0);
}

#[test]
fn a_file_that_never_answers_is_named_and_holds_up_neither_callbacks_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "Bearer first").unwrap();
    let mut site = Site::start(&asking(&token));
    std::fs::remove_file(&token).unwrap();
    make_pipe(&token);
    site.hang_up();
    wait_until("it is refused", || refused(&site).contains("is it a pipe, or on a mount that hangs?"));
    assert!(refused(&site).contains(&token.display().to_string()), "{}", refused(&site));
    assert_eq!(site.upload("/oss/one").json()["said"], "first");
    let begin = Instant::now();
    assert!(site.served.terminate().success());
    assert!(begin.elapsed() < END_TIME, "{:?}", begin.elapsed());
}

#[test]
fn a_configuration_that_comes_through_a_pipe_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let [written, pipe] = ["written.toml", "pipe.toml"].map(|name| folder.path().join(name));
    write(&written, &Signer::new(), &route("one", "first"));
    make_pipe(&pipe);
    let (text, into) = (std::fs::read_to_string(&written).unwrap(), pipe.clone());
    let writer = std::thread::spawn(move || std::fs::write(into, text).unwrap());
    let mut served = Served::start(&pipe);
    writer.join().unwrap();
    wait_until("it says so", || served.lines().iter().any(|line| line.contains("it was read once")));
    assert!(Command::new("kill").args(["-HUP", &served.id().to_string()]).status().unwrap().success());
    wait_until("it says so again", || served.lines().iter().any(|line| line.contains("can't be read again")));
    assert!(!served.lines().iter().any(|line| line.contains("refused")));
}

#[test]
fn health_asks_the_process_whatever_has_become_of_its_file() {
    let mut site = Site::start(&route("one", "first"));
    let file = site.file.clone();
    let is_well = || {
        let output = Command::new(executable::path()).args(["health", "--ready", "-c"]).arg(&file).output().unwrap();
        output.status.success()
    };
    assert!(is_well(), "the port was chosen by the system, and the file does not know it");
    let text = std::fs::read_to_string(&site.file).unwrap();
    std::fs::write(&site.file, text.replace("admin = \"127.0.0.1:0\"", "admin = \"127.0.0.1:9\"")).unwrap();
    site.hang_up();
    wait_until("it is refused", || site.reloads("needs_restart") == 1.0);
    assert!(is_well());
    std::fs::write(&site.file, "[gateway").unwrap();
    assert!(is_well());
    std::fs::remove_file(&site.file).unwrap();
    assert!(is_well());
    assert!(site.served.terminate().success());
    assert!(!is_well(), "nobody is there any more");
}
