//! What becomes of rejected callbacks beside their answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use upcall_bus::{ArchiveError, PublishErrorKind, Quarantine, RejectedCallback};

use crate::support::{BODY, Behaviour, LONG, REQUEST_ID, callback, headers, start};

/// A quarantine that keeps what it gets, unless it is told to fail or to hang.
#[derive(Default)]
struct Kept {
    callbacks: Mutex<Vec<RejectedCallback>>,
    failures: Mutex<u32>,
    hangs: bool,
}

#[async_trait]
impl Quarantine for Kept {
    async fn quarantine(&self, rejected: &[RejectedCallback]) -> Result<(), ArchiveError> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        {
            let mut failures = self.failures.lock().unwrap();
            if *failures > 0 {
                *failures -= 1;
                return Err(ArchiveError::new("not now"));
            }
        }
        self.callbacks.lock().unwrap().extend_from_slice(rejected);
        Ok(())
    }
}

fn request(target: &str, headers: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

async fn kept(quarantine: &Kept, count: usize) -> Vec<RejectedCallback> {
    let there = async {
        loop {
            let callbacks = quarantine.callbacks.lock().unwrap().clone();
            if callbacks.len() >= count {
                return callbacks;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let callbacks = tokio::time::timeout(LONG, there).await.unwrap();
    assert_eq!(callbacks.len(), count, "{callbacks:?}");
    callbacks
}

#[tokio::test]
async fn a_rejected_callback_goes_into_quarantine_with_what_explains_it() {
    let quarantine = Arc::new(Kept::default());
    let gateway = start(|options| options.quarantine = Some(Arc::clone(&quarantine) as Arc<dyn Quarantine>)).await;
    let forged = BODY.replace("size=7", "size=8");
    let cookie = format!("{}cookie: session=secret\r\n", headers("/oss/avatars?a=%20", BODY));
    assert_eq!(gateway.send(request("/oss/avatars?a=%20", &cookie, &forged)).await.status, 403);
    assert_eq!(gateway.send(callback("/oss/avatars")).await.status, 200);
    assert_eq!(gateway.send("GET /favicon.ico HTTP/1.1\r\nhost: x\r\n\r\n").await.status, 404);
    gateway.behave(Behaviour::Fail(PublishErrorKind::Unavailable));
    assert_eq!(gateway.send(callback("/oss/avatars")).await.status, 503);

    let callbacks = kept(&quarantine, 3).await;
    let codes: Vec<&str> = callbacks.iter().map(|callback| &*callback.code).collect();
    assert_eq!(codes, ["signature_mismatch", "page_unknown", "bus_unavailable"]);
    let forgery = &callbacks[0];
    assert_eq!((forgery.route.as_deref(), &*forgery.request_id), (Some("avatars"), REQUEST_ID));
    assert_eq!((&*forgery.method, &*forgery.target), ("POST", "/oss/avatars?a=%20"));
    assert_eq!((&*forgery.headers["x-oss-bucket"], forgery.headers.get("cookie")), ("examplebucket", None));
    assert!(forgery.headers.contains_key("authorization") && forgery.peer.starts_with("127.0.0.1:"), "{forgery:?}");
    let body = |callback: &RejectedCallback| callback.body.as_ref().map(|body| body.bytes.clone());
    assert_eq!(body(forgery), Some(forged.into_bytes()));
    assert_eq!((callbacks[1].route.as_deref(), body(&callbacks[1])), (None, None), "its body was not read");
    assert_eq!(body(&callbacks[2]), Some(BODY.into()));
    gateway.wait_for_metric("upcall_quarantine_callbacks_total{outcome=\"kept\"} 3").await;
}

#[tokio::test]
async fn of_a_long_body_the_beginning_is_kept() {
    let quarantine = Arc::new(Kept::default());
    let gateway = start(|options| options.quarantine = Some(Arc::clone(&quarantine) as Arc<dyn Quarantine>)).await;
    let long = format!("{BODY}&long={}", "x".repeat(100_000));
    assert_eq!(gateway.send(request("/oss/avatars", "host: x\r\n", &long)).await.status, 403);
    let body = kept(&quarantine, 1).await.remove(0).body.unwrap();
    assert_eq!((body.bytes.len(), body.length), (64 * 1024, long.len() as u64));
    assert!(long.as_bytes().starts_with(&body.bytes));
}

#[tokio::test]
async fn a_flood_of_one_code_is_limited_and_keeps_no_other_code_out() {
    let quarantine = Arc::new(Kept::default());
    let gateway = start(|options| options.quarantine = Some(Arc::clone(&quarantine) as Arc<dyn Quarantine>)).await;
    let mut connection = gateway.connect().await;
    for _ in 0..300 {
        connection.write("GET /other HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(connection.answer().await.status, 404);
    }
    assert_eq!(gateway.send(request("/oss/avatars", "host: x\r\n", BODY)).await.status, 403);
    let there = async {
        loop {
            let callbacks = quarantine.callbacks.lock().unwrap().clone();
            if callbacks.last().is_some_and(|last| last.code == "signature_missing") {
                return callbacks.len();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let kept = tokio::time::timeout(LONG, there).await.unwrap();
    // 50 at once, and one more for each second that this took.
    assert!((51..=51 + 60).contains(&kept), "{kept}");
    let limited = 301 - kept;
    gateway.wait_for_metric(&format!("upcall_quarantine_callbacks_total{{outcome=\"limited\"}} {limited}")).await;
}

#[tokio::test]
async fn what_the_bus_does_not_take_at_first_is_kept_later() {
    let quarantine = Arc::new(Kept { failures: Mutex::new(1), ..Kept::default() });
    let gateway = start(|options| options.quarantine = Some(Arc::clone(&quarantine) as Arc<dyn Quarantine>)).await;
    assert_eq!(gateway.send(request("/oss/avatars", "host: x\r\n", BODY)).await.status, 403);
    kept(&quarantine, 1).await;
}

#[tokio::test]
async fn a_quarantine_that_hangs_delays_neither_callbacks_nor_the_end() {
    let quarantine = Arc::new(Kept { hangs: true, ..Kept::default() });
    let mut gateway = start(|options| options.quarantine = Some(Arc::clone(&quarantine) as Arc<dyn Quarantine>)).await;
    // More codes than one, so that more are let in than may wait.
    for path in ["/other", "/oss/avatars"] {
        for _ in 0..60 {
            assert_ne!(gateway.send(request(path, "host: x\r\n", BODY)).await.status, 200);
        }
    }
    assert_eq!(gateway.send(callback("/oss/avatars")).await.status, 200);
    drop(gateway.stop.take());
    let ended = tokio::time::timeout(LONG, &mut gateway.task).await.unwrap().unwrap();
    assert_eq!(ended, Ok(()));
    assert!(quarantine.callbacks.lock().unwrap().is_empty());
}
