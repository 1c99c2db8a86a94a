//! Answers that an application computes, through `upcall serve`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upcall_callback::{AnswerHead, CallbackFailure, check_answer};
use upcall_tests::executable::{self, PATIENCE, Running};
use upcall_tests::http::{Answer, exchange, get, wait_until};
use upcall_tests::signer::{FORM, Signer};

use crate::serve::{Served, configuration};

/// An application with an HTTP service. What it does, the object's name says.
struct Application {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    fn start(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A connection that breaks is its client's affair.
                    Ok((stream, _)) => drop(std::thread::spawn(move || drop(answer(stream)))),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut chunk) = (Vec::new(), [0; 8192]);
    let event: Value = loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
        let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        if let Ok(event) = serde_json::from_slice(&request[at + 4..]) {
            break event;
        }
    };
    let object = event["data"]["object"].as_str().unwrap_or_default();
    let (status, body) = match object.split('-').next() {
        Some("forbidden") => ("403 Forbidden", r#"{"reason":"quota used up"}"#.to_owned()),
        Some("broken") => ("200 OK", "{\"url\":".to_owned()),
        // Until the gateway gives up.
        Some("slow") => return stream.read(&mut chunk).map(drop),
        _ => ("200 OK", json!({ "url": format!("https://cdn/{object}"), "id": event["id"] }).to_string()),
    };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A gateway whose route `asked` has these keys in its `response.http`.
struct Gateway {
    folder: tempfile::TempDir,
    signer: Signer,
    served: Served,
}

impl Gateway {
    fn start(application: SocketAddr, keys: &str) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let route = format!(
            "[[route]]\nname = \"asked\"\npath = \"/oss/asked\"\n[route.response.http]\n\
             url = \"http://{application}/upcall\"\n{keys}\n"
        );
        let served = Served::start(&configuration(folder.path(), &signer, &route));
        Self { folder, signer, served }
    }

    fn upload(&self, object: &str) -> Answer {
        let request = self.signer.upload("/oss/asked", "examplebucket", object, "5CF3E7821AB22D0FDB867000");
        exchange(self.served.callbacks, &request).unwrap()
    }

    /// The objects of the events in the journal.
    fn events(&self) -> Vec<String> {
        let journal = self.folder.path().join("journal");
        let output = Command::new(executable::path())
            .args(["tail", "--no-follow", "--json", "--journal", journal.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let object =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["data"]["object"].as_str().unwrap().to_owned();
        String::from_utf8(output.stdout).unwrap().lines().map(object).collect()
    }
}

#[test]
fn the_application_answers_the_uploader() {
    let application = Application::start("127.0.0.1:0");
    for when in ["after", "before"] {
        let gateway = Gateway::start(application.address, &format!("when = \"{when}\""));
        let answer = gateway.upload("a.png");
        assert_eq!((answer.status, &answer.json()["url"]), (200, &json!("https://cdn/a.png")), "{answer:?}");
        assert_eq!(gateway.events(), ["a.png"]);
    }
}

#[test]
fn a_veto_fails_the_upload_visibly_and_leaves_no_event() {
    let application = Application::start("127.0.0.1:0");
    let mut gateway = Gateway::start(application.address, "when = \"before\"\nfallback = { Status = \"OK\" }");
    let answer = gateway.upload("forbidden-a.png");
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "vetoed"));
    // What OSS makes of it for the uploader.
    let head = AnswerHead { status: answer.status, content_length: answer.header("content-length") };
    let failure = check_answer(head, &answer.body).unwrap_err();
    assert_eq!((&failure, failure.message().as_str()), (&CallbackFailure::Status(403), "Error status : 403."));

    let rejection = get(gateway.served.admin, "/rejections").unwrap().json()[0].clone();
    assert_eq!(
        (&rejection["code"], &rejection["reason"]),
        (&json!("vetoed"), &json!("the service vetoed: quota used up"))
    );
    let metrics = get(gateway.served.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("upcall_callbacks_total{route=\"asked\",outcome=\"vetoed\"} 1"), "{metrics}");
    assert_eq!(gateway.upload("a.png").status, 200);
    assert_eq!(gateway.events(), ["a.png"]);
    assert!(gateway.served.terminate().success());
}

#[test]
fn a_relayed_veto_reaches_the_uploader_and_leaves_no_event() {
    let application = Application::start("127.0.0.1:0");
    let gateway = Gateway::start(application.address, "when = \"before\"\nveto = \"relay\"");
    let answer = gateway.upload("forbidden-a.png");
    assert_eq!((answer.status, answer.json()), (200, json!({ "reason": "quota used up" })));
    assert_eq!(gateway.events(), [""; 0]);
}

#[test]
fn an_application_that_is_down_slow_or_wrong_gets_the_fallback_until_it_is_back() {
    let application = Application::start("127.0.0.1:0");
    let address = application.address;
    let gateway =
        Gateway::start(address, "timeout = \"300ms\"\nfallback = { Status = \"later\", object = \"${object}\" }");
    let later = |object: &str| {
        let begin = Instant::now();
        let answer = gateway.upload(object);
        assert_eq!((answer.status, answer.json()), (200, json!({ "Status": "later", "object": object })));
        assert!(begin.elapsed() < Duration::from_millis(4500), "before OSS gives up");
    };
    assert_eq!(gateway.upload("first.png").json()["url"], "https://cdn/first.png");
    later("slow-a.png");
    later("broken-a.png");
    drop(application);
    later("down.png");
    let _back = Application::start(&address.to_string());
    wait_until("the application is asked again", || gateway.upload("back.png").json()["url"] == "https://cdn/back.png");
    let events = gateway.events();
    assert_eq!(events[..4], ["first.png", "slow-a.png", "broken-a.png", "down.png"]);
    assert_eq!(events[4..], ["back.png"], "the same upload, however often it was reported");
}

#[test]
fn without_a_fallback_the_uploader_sees_that_there_is_no_answer() {
    let application = Application::start("127.0.0.1:0");
    let after = Gateway::start(application.address, "timeout = \"300ms\"");
    let before = Gateway::start(application.address, "timeout = \"300ms\"\nwhen = \"before\"");
    drop(application);
    for (gateway, events) in [(&after, 1), (&before, 0)] {
        let answer = gateway.upload("a.png");
        assert_eq!((answer.status, answer.error_code().as_str()), (502, "responder_failed"));
        assert_eq!(gateway.events().len(), events);
    }
}

#[test]
fn the_service_in_the_documentation_answers_and_vetoes() {
    let page = std::fs::read_to_string(executable::workspace().join("docs/responses.md")).unwrap();
    let (_, example) = page.split_once("```python\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    if Command::new("python3").arg("--version").output().is_err() {
        return upcall_tests::skip("the service in docs/responses.md: there is no python3");
    }
    let mut service = Running::spawn(Command::new("python3").args(["-c", example, "0"]));
    let port: u16 = service.wait_for("line with its port", |line| {
        line.strip_prefix("listening on port ").and_then(|port| port.parse().ok())
    });
    let gateway = Gateway::start(([127, 0, 0, 1], port).into(), "when = \"before\"");
    // Twice: the second question goes over the same connection.
    for object in ["a.png", "b.png"] {
        assert_eq!(gateway.upload(object).json()["url"], format!("https://cdn.example.com/{object}"));
    }
    let body = "bucket=examplebucket&object=large.png&size=10000001&reqId=5CF3E7821AB22D0FDB867000";
    let request = gateway.signer.request("/oss/asked", FORM, body);
    let answer = exchange(gateway.served.callbacks, &request).unwrap();
    assert_eq!(answer.json()["error"]["message"], "larger than 10 MB");
    assert_eq!(gateway.events(), ["a.png", "b.png"]);
}
