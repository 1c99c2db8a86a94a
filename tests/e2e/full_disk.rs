//! A full disk: 503 while it is full, 200 again as soon as there is room, and nothing lost on the way.

use std::process::Command;

use upcall_tests::disk::SmallDisk;
use upcall_tests::http::{Answer, exchange, get, wait_until};
use upcall_tests::nats::{self, NatsServer};
use upcall_tests::signer::Signer;
use upcall_tests::skip;

use crate::serve::{Served, configuration};

const DISK_MIB: u32 = 4;
const SPARE_DISK_MIB: u32 = 16;
const BALLAST_BYTES: usize = 2 << 20;

#[test]
fn a_full_disk_answers_503_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("journal"), DISK_MIB) else {
        return skip("the full disk: mounting a tmpfs needs root");
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; BALLAST_BYTES]).unwrap();
    let signer = Signer::new();
    let mut served = Served::start(&configuration(folder.path(), &signer, ""));
    let mut number = 0;
    let mut upload = || -> (String, Answer) {
        number += 1;
        let id = format!("5CF3E782{number:016X}");
        let object = format!("{}-{id}", "long".repeat(200));
        let answer = exchange(served.callbacks, &signer.upload("/oss/test", "examplebucket", &object, &id)).unwrap();
        (id, answer)
    };

    let mut answered = Vec::new();
    let refused = loop {
        let (id, answer) = upload();
        if answer.status != 200 {
            break answer;
        }
        answered.push(id);
        assert!(answered.len() < 10_000, "the disk does not fill up");
    };
    assert_eq!((refused.status, refused.error_code().as_str()), (503, "bus_full"), "{}", refused.text());
    assert!(answered.len() > 100, "only {} events fit", answered.len());
    wait_until("the gateway says that it is not ready", || get(served.admin, "/ready").unwrap().status == 503);

    std::fs::remove_file(&ballast).unwrap();
    wait_until("callbacks are taken again", || {
        let (id, answer) = upload();
        if answer.status == 200 {
            answered.push(id);
        }
        answer.status == 200
    });
    wait_until("the gateway says that it is ready", || get(served.admin, "/ready").unwrap().status == 200);
    assert!(served.terminate().success());

    let query = "SELECT json_extract(payload, '$.data.request_id') FROM event";
    let output = Command::new("sqlite3").arg(disk.path().join("journal.db")).arg(query).output().unwrap();
    let stored = String::from_utf8(output.stdout).unwrap();
    let stored: Vec<&str> = stored.lines().collect();
    let lost: Vec<_> = answered.iter().filter(|id| !stored.contains(&id.as_str())).collect();
    assert!(lost.is_empty(), "answered 200 and lost: {lost:?}");
}

#[test]
fn a_full_disk_under_a_journal_that_is_a_spare_for_nats_makes_no_gateway_unready() {
    if nats::is_missing("a full disk under a spare journal") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&folder.path().join("journal"), SPARE_DISK_MIB) else {
        return skip("the full disk under a spare journal: mounting a tmpfs needs root");
    };
    let (server, signer) = (NatsServer::start(), Signer::new());
    let more = format!("[bus.nats]\nurl = \"{}\"\n", server.url());
    let mut served = Served::start(&configuration(folder.path(), &signer, &more));
    let ready = || get(served.admin, "/ready").unwrap();
    wait_until("NATS takes events", || get(served.admin, "/metrics").unwrap().text().contains("upcall_nats_ready 1"));
    let mut number = 0;
    let mut upload = || {
        number += 1;
        let id = format!("5CF3E782{number:016X}");
        exchange(served.callbacks, &signer.upload("/oss/test", "examplebucket", &id, &id)).unwrap().status
    };
    assert_eq!(upload(), 200);
    disk.fill();
    server.kill();
    wait_until("neither takes events", || upload() == 503 && ready().status == 503);
    server.launch();
    wait_until("NATS takes them again", || upload() == 200);
    wait_until("the gateway is ready, with a remark", || {
        let ready = ready();
        ready.status == 200 && ready.text().contains("NATS takes events")
    });
    disk.free();
    wait_until("nothing is wrong any more", || !ready().text().contains("NATS takes events"));
    assert!(served.terminate().success());
}
