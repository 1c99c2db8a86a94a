//! What the simulator does wrong when it is told to.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use serde_json::json;
use upcall_callback::{PublicKey, Target};
use upcall_simulator::{CallbackOutcome, Corruption, Faults};

use crate::support::{App, Harness, Message, callback_to, ok};

fn verifies(request: &Message, pem: &str) -> bool {
    let target = Target::parse(request.target()).unwrap();
    let key = PublicKey::from_pem(pem).unwrap();
    let signature = STANDARD.decode(request.header("authorization")).unwrap();
    key.verify(&[target.path().as_bytes(), b"\n", &request.body], &signature)
}

#[tokio::test]
async fn a_callback_can_be_sent_twice() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    simulator.handle.set_faults(Faults { duplicate: true, ..Faults::default() });
    assert_eq!(simulator.put("a.txt", &callback_to(&app.url("/"))).await.status(), 200);
    let received = app.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].body, received[1].body);
    assert_eq!(received[0].header("authorization"), received[1].header("authorization"));
}

#[tokio::test]
async fn a_callback_can_be_lost_without_the_uploader_knowing() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let mut reports = simulator.handle.reports();
    simulator.handle.set_faults(Faults { lose: Some(json!({"Status": "OK"})), ..Faults::default() });
    let answer = simulator.put("a.txt", &callback_to(&app.url("/"))).await;
    assert_eq!((answer.status(), answer.text()), (200, r#"{"Status":"OK"}"#));
    assert!(simulator.has("a.txt").await);
    assert_eq!(reports.recv().await.unwrap().outcome, CallbackOutcome::Lost);
    assert_eq!(app.received().len(), 0);
}

#[tokio::test]
async fn a_corrupt_callback_does_not_verify() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let pem = simulator.handle.public_key_pem();
    let upload = async |corrupt| {
        simulator.handle.set_faults(Faults { corrupt, ..Faults::default() });
        simulator.put("a.txt", &callback_to(&app.url("/cb"))).await;
        app.received().pop().unwrap()
    };
    assert!(verifies(&upload(None).await, pem));
    let body = upload(Some(Corruption::Body)).await;
    assert!(!verifies(&body, pem));
    assert_eq!(body.header("content-md5"), STANDARD.encode(Md5::digest(&body.body)));
    let signature = upload(Some(Corruption::Signature)).await;
    assert!(!verifies(&signature, pem));
    assert!(signature.text().starts_with("bucket=examplebucket&object=a.txt&"));
}

#[tokio::test]
async fn waits_are_kept_and_only_the_stall_counts_towards_the_callbacks_time() {
    let simulator = Harness::with(|options| options.callback_timeout = Duration::from_millis(400)).await;
    let app = App::answering(ok("{}")).await;
    let parameter = callback_to(&app.url("/"));
    for (faults, status) in [
        (Faults { delay_ms: 500, ..Faults::default() }, 200),
        (Faults { late_ms: 500, ..Faults::default() }, 200),
        (Faults { stall_ms: 20, ..Faults::default() }, 200),
        (Faults { stall_ms: 500, ..Faults::default() }, 203),
    ] {
        let wait = Duration::from_millis(faults.delay_ms + faults.late_ms + faults.stall_ms.min(400));
        simulator.handle.set_faults(faults.clone());
        let start = Instant::now();
        assert_eq!(simulator.put("a.txt", &parameter).await.status(), status, "{faults:?}");
        assert!(start.elapsed() >= wait, "{faults:?}");
    }
}

#[tokio::test]
async fn faults_are_changed_over_http() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let put = async |faults: &str| simulator.send("PUT", "/_simulator/faults", &[], faults.as_bytes()).await;
    assert_eq!(put(r#"{"duplicate":true,"times":1}"#).await.status(), 200);
    assert!(simulator.handle.faults().duplicate);
    for _ in 0..2 {
        simulator.put("a.txt", &callback_to(&app.url("/"))).await;
    }
    // Twice, then once: the fault was for one upload only.
    assert_eq!(app.received().len(), 3);

    put(r#"{"corrupt":"body"}"#).await;
    let wrong = put(r#"{"corrupt":"everything"}"#).await;
    assert_eq!(wrong.status(), 400);
    assert_eq!(simulator.handle.faults().corrupt, Some(Corruption::Body), "a mistake changes nothing");
    let read = simulator.send("GET", "/_simulator/faults", &[], b"").await;
    assert_eq!(serde_json::from_slice::<Faults>(&read.body).unwrap(), simulator.handle.faults());
    assert_eq!(simulator.send("DELETE", "/_simulator/faults", &[], b"").await.status(), 200);
    assert_eq!(simulator.handle.faults(), Faults::default());
    assert_eq!(simulator.send("GET", "/_simulator/other", &[], b"").await.status(), 404);
    assert_eq!(simulator.send("POST", "/_simulator/faults", &[], b"").await.status(), 405);
}
