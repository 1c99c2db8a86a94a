//! Against a server on a socket, whose every byte the test chooses.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use upcall_consumer::{Item, Sink, Verdict};
use upcall_egress::testing::{Act, LONG, Request, Server};
use upcall_egress::{BreakerOptions, ClientOptions, Guard, header};
use upcall_event::{BucketSource, Event, EventId, Origin, Proof, Subject, UploadCompleted};

use crate::{Format, Options, Secret, WebhookSink};

mod conformance;
mod endpoint;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn event(object: &str) -> Event {
    Event {
        id: EventId::from_request("examplebucket", object, "5CF3E7821AB22D0FDB86704D"),
        time: "2026-01-01T00:00:00.123456Z".parse().unwrap(),
        data: UploadCompleted {
            bucket: "examplebucket".into(),
            object: object.into(),
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
            route: "avatars".into(),
            bucket_from: BucketSource::Body,
            proof: vec![Proof::Signature],
            origin: Origin::Callback,
        },
        trace: None,
    }
}

fn options(server: &Server) -> Options {
    let endpoint = format!("http://127.0.0.1:{}/hook?token=hunter2", server.port).parse().unwrap();
    let guard = Guard::new(vec!["127.0.0.1".parse().unwrap()]);
    Options {
        client: ClientOptions { guard, timeout: Duration::from_secs(1), ..ClientOptions::default() },
        breaker: BreakerOptions {
            failures_max: 3.try_into().unwrap(),
            open_min: Duration::from_millis(300),
            open_max: Duration::from_secs(1),
        },
        ..Options::new(endpoint, vec![SECRET.parse().unwrap()])
    }
}

fn sink(options: Options) -> WebhookSink {
    WebhookSink::new(options).unwrap()
}

async fn deliver(sink: &WebhookSink, objects: &[&str]) -> Vec<Verdict> {
    let subject: Subject = "upcall.uploads.examplebucket.PutObject".parse().unwrap();
    let events: Vec<Event> = objects.iter().map(|object| event(object)).collect();
    let item = |event| Item { subject: &subject, event, attempt: 1, sequence: 1, span: None };
    let batch: Vec<Item<'_>> = events.iter().map(item).collect();
    let verdicts = timeout(LONG, sink.deliver(&batch)).await.expect("an end");
    assert_eq!(verdicts.len(), objects.len());
    for verdict in &verdicts {
        assert!(!format!("{verdict:?}").contains("hunter2"), "{verdict:?}");
    }
    verdicts
}

/// The object of the event in a request.
fn object_of(request: &Request) -> String {
    Event::from_structured(&request.body).unwrap().data.object
}

/// Waits until the sink says that the endpoint may be tried.
async fn prepared(sink: &WebhookSink) {
    let prepared = async {
        while sink.prepare().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, prepared).await.expect("a pause ends");
}

fn is_unavailable(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Unavailable { .. })
}

fn is_retry(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Retry { .. })
}

#[tokio::test]
async fn each_event_is_one_signed_request_with_the_configured_headers() {
    let server = Server::answering(204, "", "").await;
    let mut options = options(&server);
    options.headers = HeaderMap::from_iter([header("authorization", "Bearer hunter2").unwrap()]);
    options.secrets.push("whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=".parse().unwrap());
    assert_eq!(deliver(&sink(options), &["a", "b"]).await, [Verdict::Done, Verdict::Done]);
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let event = Event::from_structured(&request.body).unwrap();
        let sent = |name| request.header(name).unwrap_or_else(|| panic!("{name} in {}", request.head));
        assert_eq!(request.target(), "/hook?token=hunter2");
        assert_eq!(sent("content-type"), "application/cloudevents+json");
        assert_eq!(sent("authorization"), "Bearer hunter2");
        assert_eq!(sent("webhook-id"), event.id.to_string());
        let (id, timestamp) = (sent("webhook-id"), sent("webhook-timestamp"));
        let signed = [format!("{id}.{timestamp}.").as_bytes(), &request.body].concat();
        let signatures: Vec<&str> = sent("webhook-signature").split(' ').collect();
        assert_eq!(signatures[0], SECRET.parse::<Secret>().unwrap().sign(&signed));
        assert!(signatures[1].starts_with("v1a,") && signatures.len() == 2, "{signatures:?}");
    }
}

#[tokio::test]
async fn the_body_is_in_the_format_that_is_configured() {
    let server = Server::answering(200, "", "").await;
    for format in [Format::Binary, Format::S3] {
        deliver(&sink(Options { format, ..options(&server) }), &["dir/ä.txt"]).await;
    }
    let [binary, s3] = <[Request; 2]>::try_from(server.requests()).unwrap();
    let read = Event::from_binary(|name| binary.header(name), &binary.body).unwrap();
    assert_eq!(read, event("dir/ä.txt"));
    assert_eq!(binary.header("content-type"), Some("application/json"));
    let records: serde_json::Value = serde_json::from_slice(&s3.body).unwrap();
    assert_eq!(records["Records"][0]["s3"]["object"]["key"], "dir/%C3%A4.txt");
    assert_eq!(s3.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn one_event_that_always_fails_holds_up_no_other() {
    let server = Server::start(|request, _| {
        let status = if object_of(request) == "poison" { 500 } else { 200 };
        Act::answer(status, "", "no\r\nsuch thing")
    })
    .await;
    let sink = sink(options(&server));
    for _ in 0..10 {
        let verdicts = deliver(&sink, &["a", "poison", "b", "c"]).await;
        let reason = "the endpoint answered with status 500 Internal Server Error: no such thing";
        assert!(
            matches!(&verdicts[1], Verdict::Retry { reason: given, after: Some(_) } if given == reason),
            "{verdicts:?}"
        );
        assert!([0, 2, 3].iter().all(|at| verdicts[*at] == Verdict::Done), "{verdicts:?}");
    }
    // Nor does it when it is always the first one to try after an outage.
    for _ in 0..3 {
        deliver(&sink, &["poison"]).await;
    }
    prepared(&sink).await;
    let verdicts = deliver(&sink, &["poison", "a"]).await;
    assert!(is_retry(&verdicts[0]) && is_unavailable(&verdicts[1]), "{verdicts:?}");
    prepared(&sink).await;
    assert_eq!(deliver(&sink, &["a", "b"]).await, [Verdict::Done, Verdict::Done]);
}

#[tokio::test]
async fn a_receiver_says_by_its_status_what_becomes_of_the_event() {
    let server = Server::start(|request, _| Act::answer(object_of(request).parse().unwrap(), "", "")).await;
    let sink = sink(options(&server));
    let verdicts = deliver(&sink, &["200", "422", "202", "301", "400", "204", "404", "299"]).await;
    for (verdict, expected) in verdicts.iter().zip(["done", "dead", "done", "retry", "retry", "done", "retry", "done"])
    {
        let is = match verdict {
            Verdict::Done => "done",
            Verdict::Dead { .. } => "dead",
            Verdict::Retry { .. } => "retry",
            Verdict::Unavailable { .. } => "unavailable",
        };
        assert_eq!(is, expected, "{verdicts:?}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_an_answer() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"4000\r\n".to_vec(), vec![b'x'; 0x4000], b"\r\n".to_vec()].concat();
    for act in [Act::SayForEver(HEAD.into(), chunk), Act::SayAndHang(HEAD.into()), Act::Say([HEAD, b"zz\r\n"].concat())]
    {
        let server = Server::start(move |_, _| act.clone()).await;
        assert_eq!(deliver(&sink(options(&server)), &["a"]).await, [Verdict::Done]);
    }
}

#[tokio::test]
async fn what_is_no_answer_counts_for_the_event() {
    for act in [
        Act::SayAndHang(Vec::new()),
        Act::Close,
        Act::Say(b"SSH-2.0-OpenSSH_9.6\r\n".into()),
        Act::answer(307, "location: /elsewhere\r\n", ""),
    ] {
        let server = Server::start(move |_, _| act.clone()).await;
        let verdicts = deliver(&sink(options(&server)), &["a"]).await;
        assert!(is_retry(&verdicts[0]), "{verdicts:?}");
        assert!(server.requests().iter().all(|request| request.target() == "/hook?token=hunter2"));
    }
}

#[tokio::test]
async fn an_attempt_is_one_request_whatever_becomes_of_the_connection() {
    let server = Server::start(|_, before| if before == 0 { Act::answer(200, "", "") } else { Act::Close }).await;
    let sink = sink(options(&server));
    assert_eq!(deliver(&sink, &["a"]).await, [Verdict::Done]);
    // Once on the connection that was kept, once on a new one.
    for requests in [2, 3] {
        let verdicts = deliver(&sink, &["b"]).await;
        assert!(is_retry(&verdicts[0]), "{verdicts:?}");
        assert_eq!(server.requests().len(), requests);
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_endpoint_closed_costs_no_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closed = Arc::new(AtomicUsize::new(0));
    let counted = closed.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answering = upcall_egress::testing::serve(stream, |_, _| Act::answer(200, "", ""));
            drop(timeout(Duration::from_millis(200), answering).await);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let server = Server::answering(200, "", "").await;
    let endpoint = format!("http://127.0.0.1:{port}/").parse().unwrap();
    let sink = sink(Options { endpoint, ..options(&server) });
    for number in 1..=3 {
        assert_eq!(deliver(&sink, &["a"]).await, [Verdict::Done]);
        let is_closed = async {
            while closed.load(Ordering::SeqCst) < number {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, is_closed).await.expect("it is closed");
    }
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_configured() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (now.clone(), most.clone());
    let server = Server::start(move |_, _| {
        peak.fetch_max(counted.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let counted = counted.clone();
        tokio::spawn(async move {
            sleep(Duration::from_millis(50)).await;
            counted.fetch_sub(1, Ordering::SeqCst);
        });
        Act::Later(Duration::from_millis(60), Box::new(Act::answer(200, "", "")))
    })
    .await;
    let sink = sink(Options { concurrency: NonZeroUsize::new(3).unwrap(), ..options(&server) });
    // Two batches at once.
    let (first, second) = tokio::join!(deliver(&sink, &["a"; 10]), deliver(&sink, &["b"; 10]));
    assert!(first.iter().chain(&second).all(|verdict| *verdict == Verdict::Done));
    assert_eq!((most.load(Ordering::SeqCst), server.requests().len()), (3, 20));
}

#[tokio::test]
async fn a_rate_is_obeyed_by_waiting() {
    let server = Server::answering(200, "", "").await;
    let sink = sink(Options { rate: Some("5/s".parse().unwrap()), ..options(&server) });
    let begun = Instant::now();
    assert!(deliver(&sink, &["a"; 11]).await.iter().all(|verdict| *verdict == Verdict::Done));
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_a_batch_has_no_time_for_goes_back_uncounted() {
    let server = Server::answering(200, "", "").await;
    // 3 seconds are kept for the last request.
    let batch_time = Duration::from_millis(3_500);
    let sink = sink(Options { rate: Some("2/min".parse().unwrap()), batch_time, ..options(&server) });
    let verdicts = deliver(&sink, &["a", "b", "c"]).await;
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Done).count(), 2, "{verdicts:?}");
    assert_eq!(verdicts.iter().filter(|verdict| is_unavailable(verdict)).count(), 1, "{verdicts:?}");
}
