//! Against a service on a socket, whose every byte the test chooses.

mod fake;

use std::sync::atomic::Ordering;

use tokio::net::TcpListener;
use tokio::time::timeout;
use upcall_event::{BucketSource, EventId, Origin, Proof, UploadCompleted};

use super::*;
use fake::{Act, Fake};

/// Nothing here takes longer, unless it is broken.
const LONG: Duration = Duration::from_secs(20);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

async fn ask(service: &HttpService) -> Result<Reply, AskError> {
    timeout(LONG, service.ask(&event(), LONG)).await.expect("an end")
}

fn event() -> Event {
    Event {
        id: EventId::from_request("b", "o", "r"),
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        data: UploadCompleted {
            bucket: "examplebucket".into(),
            object: "dir/ä.txt".into(),
            etag: None,
            size: Some(1024),
            mime_type: None,
            crc64: None,
            content_md5: None,
            image: None,
            operation: None,
            request_id: None,
            client_ip: None,
            vpc_id: None,
            vars: Default::default(),
            extra: Default::default(),
            route: "r".into(),
            bucket_from: BucketSource::Body,
            proof: vec![Proof::Signature],
            origin: Origin::Callback,
        },
        trace: None,
    }
}

fn response(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

#[track_caller]
fn assert_failed(asked: Result<Reply, AskError>, kind: AskErrorKind) {
    assert_eq!(asked.as_ref().map_err(|error| error.kind).unwrap_err(), kind, "{asked:?}");
}

#[tokio::test]
async fn the_event_is_posted_as_a_structured_cloudevent() {
    let fake = Fake::saying(response(201, "", "{\"a\": 1}")).await;
    let reply = ask(&fake.service("http", Some("Bearer hunter2"))).await.unwrap();
    assert_eq!(reply, Reply::Answer("{\"a\": 1}".into()));
    let requests = fake.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /upcall?x=1 HTTP/1.1\r\n"), "{head}");
    for header in
        ["content-type: application/cloudevents+json", "accept: application/json", "authorization: Bearer hunter2"]
    {
        assert!(head.lines().any(|line| line == header), "{header} in {head}");
    }
    assert_eq!(Event::from_structured(body.as_bytes()).unwrap(), event());
}

#[tokio::test]
async fn the_status_says_whether_it_is_an_answer_a_veto_or_a_failure() {
    let fake = Fake::start(|before| {
        let status = 200 + u16::try_from(before).unwrap();
        Act::Say(response(status, "", if [204, 304].contains(&status) { "" } else { "{\"reason\": \"no\"}" }).into())
    })
    .await;
    let service = fake.service("http", None);
    for status in 200..600 {
        let asked = ask(&service).await;
        match status {
            200..300 => assert!(matches!(asked, Ok(Reply::Answer(_))), "{status}: {asked:?}"),
            408 | 429 => assert_failed(asked, AskErrorKind::Failed),
            400..500 => {
                let body = "{\"reason\": \"no\"}";
                assert_eq!(asked.unwrap(), Reply::Veto(Veto::new("no", body)), "{status}");
            }
            _ => assert_failed(asked, AskErrorKind::Failed),
        }
    }
    assert_eq!(fake.requests().len(), 400, "each is asked once");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let fake = Fake::saying(response(307, "location: /other\r\n", "")).await;
    assert_failed(fake.ask().await, AskErrorKind::Failed);
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_connection_serves_many_questions() {
    let fake = Fake::saying(OK).await;
    let service = fake.service("http", None);
    for _ in 0..10 {
        ask(&service).await.unwrap();
    }
    assert_eq!((fake.requests().len(), fake.connections.load(Ordering::SeqCst)), (10, 1));
}

#[tokio::test]
async fn a_kept_connection_that_the_service_closes_is_replaced() {
    let fake = Fake::start(|before| if before == 1 { Act::Close } else { Act::Say(OK.into()) }).await;
    let service = fake.service("http", None);
    ask(&service).await.unwrap();
    ask(&service).await.unwrap();
    assert_eq!((fake.requests().len(), fake.connections.load(Ordering::SeqCst)), (3, 2));
}

#[tokio::test]
async fn a_service_that_always_closes_is_asked_twice() {
    let fake = Fake::start(|_| Act::Close).await;
    assert_failed(fake.ask().await, AskErrorKind::Failed);
    assert_eq!(fake.requests().len(), 2);
}

#[tokio::test]
async fn an_answer_that_breaks_off_or_is_no_http_is_a_failure() {
    let broken = Fake::saying("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").await;
    assert_failed(broken.ask().await, AskErrorKind::Failed);
    let strange = Fake::saying("SSH-2.0-OpenSSH_9.6\r\n").await;
    assert_failed(strange.ask().await, AskErrorKind::Failed);
}

#[tokio::test]
async fn no_more_is_read_than_oss_relays() {
    let long = Fake::start(|_| Act::SayAndHang(b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n".into())).await;
    assert_failed(long.ask().await, AskErrorKind::InvalidReply);
    let endless = Fake::start(|_| {
        let chunk = format!("{:x}\r\n{}\r\n", 600_000, "x".repeat(600_000)).repeat(2);
        Act::SayAndHang(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}").into())
    })
    .await;
    assert_failed(endless.ask().await, AskErrorKind::InvalidReply);
    let longest = Fake::saying(response(200, "", &format!("[{}]", " ".repeat(ANSWER_BYTES_MAX - 2)))).await;
    assert!(matches!(longest.ask().await, Ok(Reply::Answer(answer)) if answer.len() == ANSWER_BYTES_MAX));
}

#[tokio::test]
async fn a_veto_stands_whatever_becomes_of_its_body() {
    let hanging =
        Fake::start(|_| Act::SayAndHang(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\n\r\n{".into())).await;
    let limit = Duration::from_millis(500);
    let asked =
        timeout(limit, hanging.service("http", None).ask(&event(), limit)).await.expect("before its time is up");
    let no_reason = Veto::new("the service answered with status 403 Forbidden", "");
    assert_eq!(asked.unwrap(), Reply::Veto(no_reason.clone()));
    let long =
        Fake::start(|_| Act::SayAndHang(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 9999999\r\n\r\n".into())).await;
    assert_eq!(long.ask().await.unwrap(), Reply::Veto(no_reason.clone()));
    let broken = Fake::start(|_| {
        Act::Say(b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz".into())
    })
    .await;
    assert_eq!(broken.ask().await.unwrap(), Reply::Veto(no_reason));
}

#[tokio::test]
async fn where_nobody_listens_the_question_fails_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let nobody = HttpService::new(Options { url, authorization: None }).unwrap();
    assert_failed(ask(&nobody).await, AskErrorKind::Unreachable);
}

#[tokio::test]
async fn a_service_over_https_needs_a_certificate_that_is_trusted() {
    let fake = Fake::with_tls("localhost").await;
    assert_eq!(ask(&fake.service("https", None)).await.unwrap(), Reply::Answer("{}".into()));
    let other = Fake::with_tls("evil.example").await;
    assert_failed(ask(&other.service("https", None)).await, AskErrorKind::Unreachable);
    assert_eq!(other.requests().len(), 0);
}
