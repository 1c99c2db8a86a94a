//! A program of one's own, from the upload to its exit status.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use upcall_tests::executable;
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::signer::Signer;

use crate::serve::{Served, configuration};

const PROGRAM: &str = "#!/bin/sh
case \"$UPCALL_EVENT_OBJECT\" in *bad*) echo 'no such album' >&2; exit 65;; esac
cat >\"$1/$UPCALL_EVENT_ID.json\"
";

#[test]
fn a_program_gets_the_uploads_that_its_condition_takes_and_its_exit_status_is_the_verdict() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let (program, events) = (folder.path().join("thumbnail"), folder.path().join("events"));
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&events).unwrap();
    let file = configuration(
        folder.path(),
        &signer,
        "[[consumer]]\nname = \"thumbnails\"\nwhere = { object = \"images/**/*.jpg\" }\n\
         command = { program = \"./thumbnail\", args = [\"events\"] }\n",
    );
    let mut served = Served::start(&file);
    wait_until("the gateway is ready", || get(served.admin, "/ready").unwrap().status == 200);
    for object in ["images/a.jpg", "images/b/c.jpg", "images/bad.jpg", "images/d.png", "e.jpg"] {
        let request = signer.upload("/oss/test", "examplebucket", object, &format!("5CF3E782-{object}"));
        assert_eq!(exchange(served.callbacks, &request).unwrap().status, 200);
    }
    let outcome = |outcome: &str, count: u32| {
        format!("upcall_consumer_deliveries_total{{consumer=\"thumbnails\",outcome=\"{outcome}\"}} {count}\n")
    };
    let counted = [outcome("done", 2), outcome("skipped", 2), outcome("dead", 1), outcome("retried", 0)];
    wait_until("all are settled", || {
        let metrics = get(served.admin, "/metrics").unwrap().text();
        counted.iter().all(|line| metrics.contains(line.as_str()))
    });
    let mut objects: Vec<String> = fs::read_dir(&events)
        .unwrap()
        .map(|entry| {
            let event: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
            event["data"]["object"].as_str().unwrap().to_owned()
        })
        .collect();
    objects.sort();
    assert_eq!(objects, ["images/a.jpg", "images/b/c.jpg"]);
    let output = Command::new(executable::path()).args(["dead", "list", "--json", "-c"]).arg(&file).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let [letter] = &list.lines().collect::<Vec<_>>()[..] else { panic!("{list}") };
    let letter: Value = serde_json::from_str(letter).unwrap();
    assert_eq!((&letter["reason"], &letter["attempts"]), (&"exit status 65: no such album".into(), &1.into()));
    assert!(served.terminate().success());
}

#[test]
fn whoever_ends_the_process_in_haste_ends_its_programs_too() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let program = folder.path().join("slow");
    fs::write(&program, "#!/bin/sh\ntrap '' TERM\nsleep 300 &\necho \"$$ $!\" >pids.tmp\nmv pids.tmp pids\nwait\n")
        .unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let consumer = "[[consumer]]\nname = \"slow\"\ndrain_timeout = \"5m\"\n\
                    command = { program = \"./slow\", timeout = \"10m\" }\n";
    let mut served = Served::start(&configuration(folder.path(), &signer, consumer));
    let request = signer.upload("/oss/test", "examplebucket", "a.jpg", "5CF3E782");
    assert_eq!(exchange(served.callbacks, &request).unwrap().status, 200);
    let pids = folder.path().join("pids");
    wait_until("the program runs", || pids.exists());
    let terminate = |served: &Served| {
        let told = Command::new("kill").args(["-TERM", &served.id().to_string()]).status().unwrap();
        assert!(told.success());
    };
    terminate(&served);
    wait_until("word of the shutdown", || served.lines().iter().any(|line| line.contains("a second signal ends")));
    terminate(&served);
    for pid in fs::read_to_string(pids).unwrap().split_whitespace() {
        let stat = format!("/proc/{pid}/stat");
        wait_until("the program is gone", || {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) || !fs::exists(&stat).unwrap()
        });
    }
    served.kill();
}
