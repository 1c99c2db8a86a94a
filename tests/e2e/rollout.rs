//! Gateways that end, and others that go on.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use upcall_tests::http::{get, read_answer, wait_until};
use upcall_tests::rollout::{Plan, is_missing, run};
use upcall_tests::signer::Signer;

use crate::serve::{Served, configuration};

#[test]
fn a_rolling_restart_behind_nginx_fails_no_callback() {
    if is_missing("a rolling restart behind nginx") {
        return;
    }
    let found = run(Plan { per_second: 200, duration: Duration::from_secs(15), restarts: 2, hangs: false });
    assert_eq!((found.sent, found.restarts), (3000, 2));
    let failed = &found.failed;
    assert!(failed.is_empty(), "{} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    assert_eq!((found.lost, found.doubled), (0, 0));
}

#[test]
fn a_gateway_that_hangs_behind_nginx_fails_no_callback_and_is_left_alone() {
    if is_missing("a gateway that hangs behind nginx") {
        return;
    }
    let found = run(Plan { per_second: 50, duration: Duration::from_secs(30), restarts: 0, hangs: true });
    let failed = &found.failed;
    assert!(failed.is_empty(), "{} failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    assert_eq!((found.sent, found.lost, found.doubled), (1500, 0, 0));
    // Those of the first two seconds waited for it, of ten.
    assert!(found.slow < 150, "{} waited for a second or longer", found.slow);
}

#[test]
fn who_keeps_a_connection_is_told_to_close_it_before_the_gateway_stops_accepting() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let file = configuration(folder.path(), &signer, "[gateway.shutdown]\ngrace = \"2s\"\n");
    let served = Served::start(&file);
    let mut kept = TcpStream::connect(served.callbacks).unwrap();
    let mut ask = |number: u32| {
        let request =
            signer.upload("/oss/test", "examplebucket", "a.png", &format!("5CF3E7821AB22D0FDB8670{number:02X}"));
        // As a proxy keeps it.
        let request = String::from_utf8(request).unwrap().replace("Connection: close\r\n", "");
        kept.write_all(request.as_bytes()).unwrap();
        let answer = read_answer(&mut kept).unwrap();
        (answer.status, answer.header("connection").map(str::to_owned))
    };
    assert_eq!(ask(0), (200, None));
    assert!(Command::new("kill").args(["-TERM", &served.id().to_string()]).status().unwrap().success());
    let admin = served.admin;
    wait_until("it says that it is not ready", || get(admin, "/ready").is_ok_and(|answer| answer.status == 503));
    assert_eq!(ask(1), (200, Some("close".to_owned())), "it is taken nevertheless");
}
