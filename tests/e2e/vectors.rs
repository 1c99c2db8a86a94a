//! Callbacks that OSS really sent and signed, over a real socket, to a gateway that trusts only the built-in key.

use std::process::Command;

use serde_json::Value;
use upcall_tests::executable;
use upcall_tests::http::{Answer, exchange};
use upcall_tests::signer::FORM;

use crate::serve::Served;

/// A recorded callback.
struct Vector {
    id: String,
    target: String,
    body: String,
    authorization: String,
    key_url: Option<String>,
    bucket: Option<String>,
}

const CONFIGURATION: &str = r#"
[gateway]
listen = "127.0.0.1:0"
admin = "127.0.0.1:0"
[gateway.limits]
log_lines_per_second = 1
[bus]
journal = "./journal"
[keys]
fetch = false

[[route]]
name = "v1"
path = "/index.php"

[[route]]
name = "v2"
path = "/api/File/15/upload_notify/"
buckets = ["examplebucket"]
fields = { object = "filename" }

[[route]]
name = "v3"
path = "/api/AliYunOssCallback"
bucket_from_header = true
fields = { object = "filename" }

[[route]]
name = "v4"
path = "/api/v3/callback/oss/TnXx5E5VyfJUyM1UdkdDu1rtnJ34EbmH"
buckets = ["examplebucket"]
fields = { object = "source_name" }
"#;

fn vectors() -> Vec<Vector> {
    let text = std::fs::read_to_string(executable::workspace().join("tests/vectors/oss-callbacks.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let vector = |vector: &Value| Vector {
        id: text(&vector["id"]).unwrap(),
        target: text(&vector["path_and_query"]).unwrap(),
        body: text(&vector["body"]).unwrap(),
        authorization: text(&vector["authorization"]).unwrap(),
        key_url: text(&vector["pub_key_url"]),
        bucket: text(&vector["headers"]["x-oss-bucket"]),
    };
    file["vectors"].as_array().unwrap().iter().map(vector).collect()
}

impl Vector {
    fn send(&self, served: &Served) -> Answer {
        let content_type = if self.body.starts_with('{') { "application/json" } else { FORM };
        let header = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name}: {value}\r\n")).unwrap_or_default()
        };
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: oss.test\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             authorization: {}\r\n{}{}\r\n{}",
            self.target,
            self.body.len(),
            self.authorization,
            header("x-oss-pub-key-url", &self.key_url),
            header("x-oss-bucket", &self.bucket),
            self.body
        );
        exchange(served.callbacks, request.as_bytes()).unwrap()
    }
}

#[test]
fn every_recorded_callback_is_authenticated_and_none_with_a_changed_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upcall.toml");
    std::fs::write(&file, CONFIGURATION).unwrap();
    let mut served = Served::start(&file);

    for vector in vectors() {
        let answer = vector.send(&served);
        if vector.id == "v1-official-doc" {
            assert_eq!((answer.status, answer.error_code().as_str()), (422, "object_missing"), "{}", answer.text());
        } else {
            assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"Status":"OK"}"#), "{}", vector.id);
        }
        for changed in changes(&vector) {
            let answer = changed.send(&served);
            assert!((400..=404).contains(&answer.status), "{}: {}", changed.target, answer.text());
        }
    }
    assert!(served.terminate().success());

    let journal = folder.path().join("journal");
    let tail = Command::new(executable::path())
        .args(["tail", "--no-follow", "--json", "--journal"])
        .arg(journal)
        .output()
        .unwrap();
    let events: Vec<Value> =
        String::from_utf8(tail.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<[&str; 4]> = events
        .iter()
        .map(|event| ["route", "bucket", "bucket_from", "object"].map(|field| event["data"][field].as_str().unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            ["v2", "examplebucket", "route", "zmaplex/20210407_14:31:41_286180/20200130021612_pnfqp.jpg"],
            ["v3", "deeplink", "header", "headSculpture/jikang2.jpg"],
            ["v4", "examplebucket", "route", "1/1_hFRtDLgM_2f7b2ccf30e9270ea920f1ab8a4037a546a2f0d5.jpg"],
        ]
    );
    assert_eq!(events[1]["data"]["size"], 108_904);
    assert_eq!(events[1]["data"]["image"]["height"], 278);
}

/// The callback with each byte of path, query, body and signature changed in turn. The bytes stay such that the
/// request as a whole remains well-formed: what is tested is the signature, not the HTTP parser.
fn changes(vector: &Vector) -> Vec<Vector> {
    let copy = || Vector {
        id: vector.id.clone(),
        target: vector.target.clone(),
        body: vector.body.clone(),
        authorization: vector.authorization.clone(),
        key_url: vector.key_url.clone(),
        bucket: vector.bucket.clone(),
    };
    let mut changed = Vec::new();
    for at in 1..vector.target.len() {
        changed.push(Vector { target: change(&vector.target, at), ..copy() });
    }
    for at in 0..vector.body.len() {
        changed.push(Vector { body: change(&vector.body, at), ..copy() });
    }
    for at in 0..vector.authorization.len() {
        changed.push(Vector { authorization: change(&vector.authorization, at), ..copy() });
    }
    changed
}

fn change(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).unwrap()
}
