//! The main job: `upcall dev`, the upload that it prints, and everything that is then to be seen.

use std::path::Path;
use std::process::{Command, Output};

use upcall_tests::executable::{self, Running};
use upcall_tests::http::wait_until;

#[test]
fn the_printed_upload_is_answered_shown_tailed_and_stored() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("upcall-data");
    let data_text = data.to_str().unwrap();
    let mut dev = Running::start_dev(&data);
    let mut upload =
        dev.wait_for("upload to paste", |line| line.trim_start().starts_with("curl ").then(|| line.to_owned()));
    while upload.ends_with('\\') {
        let next = dev.wait_for("rest of the upload", |line| Some(line.to_owned()));
        upload = format!("{}{next}", upload.trim_end_matches('\\'));
    }

    let answer = text(&shell(folder.path(), &upload));
    assert!(answer.contains("200 OK"), "{answer}");
    let json: serde_json::Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
    assert_eq!((&json["Status"], &json["bucket"]), (&"OK".into(), &"examplebucket".into()), "{answer}");
    let object = json["object"].as_str().unwrap().to_owned();
    dev.wait_for("line about the callback", |line| (line.contains(&object) && line.contains("200")).then_some(()));

    let tail = Command::new(executable::path())
        .args(["tail", "--journal", data_text, "--no-follow", "--json"])
        .output()
        .unwrap();
    let event: serde_json::Value = serde_json::from_str(text(&tail).trim()).unwrap();
    assert_eq!(event["data"]["object"], object.as_str());
    assert_eq!(event["id"], json["id"]);
    assert_eq!(event["data"]["proof"], serde_json::json!(["signature"]));

    let catalog = data.join("catalog.db");
    let query = "SELECT bucket, object, event_id FROM uploads";
    let expected = format!("examplebucket|{object}|{}\n", json["id"].as_str().unwrap());
    wait_until("the row is in the table", || {
        text(&Command::new("sqlite3").arg("-readonly").arg(&catalog).arg(query).output().unwrap()) == expected
    });
    assert!(dev.terminate().success());
}

fn shell(folder: &Path, command: &str) -> Output {
    Command::new("sh").arg("-c").arg(command).current_dir(folder).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}
