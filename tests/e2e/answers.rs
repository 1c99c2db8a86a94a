//! Answers that an application computes, over HTTP and over NATS, through `upcall serve`.

mod application;
mod http;
mod nats;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upcall_callback::{AnswerHead, CallbackFailure, check_answer};
use upcall_tests::executable::{self, Running};
use upcall_tests::http::{Answer, exchange, get, wait_until};
use upcall_tests::nats::is_missing;
use upcall_tests::signer::{FORM, Signer};

use crate::serve::{Served, configuration};
use application::{Application, WRONG};
use http::HttpApplication;
use nats::NatsApplication;

/// A gateway whose route `asked` asks an application.
struct Gateway {
    file: PathBuf,
    signer: Signer,
    served: Served,
    /// Last, since the gateway is looked at once more when it is dropped.
    _folder: tempfile::TempDir,
}

impl Gateway {
    /// With these keys beside the one that says where the service is.
    fn start(application: &impl Application, keys: &str) -> Self {
        Self::start_with(&application.bus(), &format!("{}{keys}", application.response()))
    }

    fn start_with(bus: &str, response: &str) -> Self {
        let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
        let route = format!("{bus}\n[[route]]\nname = \"asked\"\npath = \"/oss/asked\"\n{response}\n");
        let file = configuration(folder.path(), &signer, &route);
        let served = Served::start(&file);
        // Without an event: a request of NATS needs a connection.
        wait_until("the gateway is ready", || {
            let ready = get(served.admin, "/ready").unwrap().json();
            ready["components"].as_array().unwrap().iter().all(|component| component["reason"].is_null())
        });
        Self { file, signer, served, _folder: folder }
    }

    fn upload(&self, object: &str) -> Answer {
        let request = self.signer.upload("/oss/asked", "examplebucket", object, "5CF3E7821AB22D0FDB867000");
        let begin = Instant::now();
        let answer = exchange(self.served.callbacks, &request).unwrap();
        assert!(begin.elapsed() < Duration::from_millis(4500), "before OSS gives up");
        answer
    }

    /// The objects of the events on the bus.
    fn events(&self) -> Vec<String> {
        let file = self.file.to_str().unwrap();
        let output = Command::new(executable::path())
            .args(["tail", "--no-follow", "--json", "-n", "100", "-c", file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let object =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["data"]["object"].as_str().unwrap().to_owned();
        String::from_utf8(output.stdout).unwrap().lines().map(object).collect()
    }
}

/// Makes a test of each function for either application.
macro_rules! over_http_and_nats {
    ($($test:ident),+ $(,)?) => {
        mod over_http {
            $(#[test] fn $test() { super::$test(&mut super::HttpApplication::start()); })+
        }
        mod over_nats {
            $(
                #[test]
                fn $test() {
                    if !super::is_missing(concat!(stringify!($test), " (over NATS)")) {
                        super::$test(&mut super::NatsApplication::start());
                    }
                }
            )+
        }
    };
}

over_http_and_nats!(
    a_relayed_veto_reaches_the_uploader_and_leaves_no_event,
    a_veto_fails_the_upload_visibly_and_leaves_no_event,
    an_application_that_is_down_slow_or_wrong_gets_the_fallback_until_it_is_back,
    the_application_answers_the_uploader,
    without_a_fallback_the_uploader_sees_that_there_is_no_answer,
);

fn the_application_answers_the_uploader(application: &mut impl Application) {
    for when in ["after", "before"] {
        let gateway = Gateway::start(application, &format!("when = \"{when}\""));
        let object = format!("{when}.png");
        let answer = gateway.upload(&object);
        let url = format!("https://cdn/{object}");
        assert_eq!((answer.status, &answer.json()["url"]), (200, &json!(url)), "{answer:?}");
        assert!(gateway.events().contains(&object));
    }
}

fn a_veto_fails_the_upload_visibly_and_leaves_no_event(application: &mut impl Application) {
    let mut gateway = Gateway::start(application, "when = \"before\"\nfallback = { Status = \"OK\" }");
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

fn a_relayed_veto_reaches_the_uploader_and_leaves_no_event(application: &mut impl Application) {
    let gateway = Gateway::start(application, "when = \"before\"\nveto = \"relay\"");
    let answer = gateway.upload("forbidden-a.png");
    assert_eq!((answer.status, answer.json()), (200, json!({ "reason": "quota used up" })));
    assert_eq!(gateway.events(), [""; 0]);
}

fn an_application_that_is_down_slow_or_wrong_gets_the_fallback_until_it_is_back(application: &mut impl Application) {
    let keys = "timeout = \"300ms\"\nfallback = { Status = \"later\", object = \"${object}\" }";
    let gateway = Gateway::start(application, keys);
    let later = |object: &str| {
        let answer = gateway.upload(object);
        assert_eq!((answer.status, answer.json()), (200, json!({ "Status": "later", "object": object })));
        // What OSS makes of it for the uploader.
        let head = AnswerHead { status: answer.status, content_length: answer.header("content-length") };
        check_answer(head, &answer.body).unwrap();
    };
    assert_eq!(gateway.upload("first.png").json()["url"], "https://cdn/first.png");
    WRONG.iter().for_each(|wrong| later(wrong));
    application.stop();
    later("down.png");
    application.start_again();
    wait_until("the application is asked again", || gateway.upload("back.png").json()["url"] == "https://cdn/back.png");
    let mut expected = vec!["first.png"];
    expected.extend(WRONG);
    expected.extend(["down.png", "back.png"]);
    assert_eq!(gateway.events(), expected, "each upload once, however often it was reported");
}

fn without_a_fallback_the_uploader_sees_that_there_is_no_answer(application: &mut impl Application) {
    let after = Gateway::start(application, "timeout = \"300ms\"");
    let shown = |gateway: &Gateway, object: &str, status: u16, code: &str| {
        let answer = gateway.upload(object);
        assert_eq!((answer.status, answer.error_code().as_str()), (status, code), "{object}");
    };
    for wrong in WRONG {
        let (status, code) = if wrong == "slow" { (504, "responder_timeout") } else { (502, "responder_failed") };
        shown(&after, wrong, status, code);
    }
    assert_eq!(after.events(), WRONG, "the events are durable all the same");
    drop(after);

    let before = Gateway::start(application, "timeout = \"300ms\"\nwhen = \"before\"");
    let events = before.events();
    shown(&before, "broken-b", 502, "responder_failed");
    shown(&before, "slow-b", 504, "responder_timeout");
    application.stop();
    shown(&before, "down.png", 502, "responder_failed");
    assert_eq!(before.events(), events, "what was not answered was not published");
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
    let response = format!("[route.response.http]\nurl = \"http://127.0.0.1:{port}/upcall\"\nwhen = \"before\"");
    let gateway = Gateway::start_with("", &response);
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
