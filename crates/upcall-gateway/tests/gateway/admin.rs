//! What operators see, and how the gateway shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use upcall_gateway::{Gateway, Health, ReadyCheck, Unfinished};

use crate::support::{BODY, Behaviour, Connection, LONG, REQUEST_ID, callback, start};

#[tokio::test]
async fn readiness_names_each_component_and_its_reason() {
    let full = Arc::new(AtomicBool::new(false));
    let is_full = Arc::clone(&full);
    let gateway = start(move |options| {
        options.ready_checks.push(ReadyCheck::new("journal", move || match is_full.load(Ordering::SeqCst) {
            true => Health::Unready("the disk is full".to_owned()),
            false => Health::Fine,
        }));
        options.ready_checks.push(ReadyCheck::new("relay", || Health::Remark("7 events to go".to_owned())));
    })
    .await;
    assert_eq!(gateway.page("/live").await.status, 200);
    let ready = gateway.page("/ready").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
    full.store(true, Ordering::SeqCst);
    let unready = gateway.page("/ready").await;
    assert_eq!(unready.status, 503);
    let expected = serde_json::json!({ "ready": false, "components": [
        { "name": "gateway", "ready": true, "reason": null },
        { "name": "journal", "ready": false, "reason": "the disk is full" },
        { "name": "relay", "ready": true, "reason": "7 events to go" },
    ] });
    assert_eq!(unready.json(), expected);
}

#[tokio::test]
async fn callbacks_are_counted_by_route_and_outcome() {
    let gateway = start(|_| {}).await;
    let forged = callback("/oss/avatars").replace("size=7", "size=8");
    for _ in 0..3 {
        gateway.send(callback("/oss/avatars")).await.assert_accepted();
    }
    gateway.behave(Behaviour::Duplicate);
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
    gateway.send(forged).await.assert_error(403, "signature_mismatch");
    gateway.send(callback("/none")).await.assert_error(404, "route_unknown");
    gateway.send("nonsense\r\n\r\n").await.assert_error(400, "request_malformed");
    let page = gateway.page("/metrics").await;
    assert_eq!(page.status, 200);
    let lines: Vec<&str> = page.body.lines().collect();
    for expected in [
        "upcall_callbacks_total{route=\"avatars\",outcome=\"accepted\"} 3",
        "upcall_callbacks_total{route=\"avatars\",outcome=\"duplicate\"} 1",
        "upcall_callbacks_total{route=\"avatars\",outcome=\"signature_mismatch\"} 1",
        "upcall_callbacks_total{route=\"avatars\",outcome=\"bus_full\"} 0",
        "upcall_callbacks_total{route=\"\",outcome=\"route_unknown\"} 1",
        "upcall_callbacks_total{route=\"\",outcome=\"request_malformed\"} 1",
        "upcall_callback_stage_duration_seconds_count{stage=\"publish\"} 4",
        "upcall_callback_stage_duration_seconds_count{stage=\"total\"} 6",
        "upcall_callbacks_in_flight 0",
    ] {
        assert!(lines.contains(&expected), "{expected} is missing in\n{}", page.body);
    }
}

#[tokio::test]
async fn refused_requests_are_shown_without_body_and_signature() {
    let gateway = start(|_| {}).await;
    let forged = callback("/oss/avatars").replace("size=7", "size=8");
    gateway.send(&forged).await.assert_error(403, "signature_mismatch");
    gateway.send("GET /none HTTP/1.1\r\nx-oss-request-id: a\tb\r\n\r\n").await.assert_error(404, "page_unknown");
    let page = gateway.page("/rejections").await;
    let (first, second) = (&page.json()[0], &page.json()[1]);
    assert_eq!((&first["code"], &first["request_id"]), (&"page_unknown".into(), &"ab".into()));
    assert_eq!((&second["code"], &second["route"]), (&"signature_mismatch".into(), &"avatars".into()));
    assert_eq!((&second["request_id"], &second["bucket_header"]), (&REQUEST_ID.into(), &"examplebucket".into()));
    let signature = forged.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap();
    assert!(!page.body.contains(signature) && !page.body.contains(&BODY[..30]));
}

#[tokio::test]
async fn an_unknown_admin_page_is_404() {
    let gateway = start(|_| {}).await;
    gateway.page("/oss/avatars").await.assert_error(404, "route_unknown");
}

/// What keeps a connection for as long as it may.
async fn stall(address: std::net::SocketAddr, number: usize) -> Connection {
    let mut connection = Connection::open(address).await;
    match number % 3 {
        0 => connection.write("PUT /log HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n").await,
        1 => connection.write("GET /live HTTP/1.1\r\nhost: x\r\n").await,
        _ => {}
    }
    connection
}

#[tokio::test]
async fn clients_that_stall_keep_no_probe_out() {
    let gateway = start(|options| options.health = Some("127.0.0.1:0".parse().unwrap())).await;
    for address in [gateway.admin, gateway.health.unwrap()] {
        let mut stalled = Vec::new();
        for number in 0..300 {
            stalled.push(stall(address, number).await);
        }
        for path in ["/live", "/ready"] {
            let mut probe = Connection::open(address).await;
            probe.write(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
            assert_eq!(probe.answer().await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_filter_that_does_not_arrive_is_not_waited_for() {
    let logging = upcall_telemetry::log::start(Default::default(), "info", Default::default()).unwrap();
    let gateway = start(|options| options.log = Some(logging.control())).await;
    let mut stalled = stall(gateway.admin, 0).await;
    stalled.answer().await.assert_error(408, "body_timeout");
    stalled.closed().await;
}

#[tokio::test]
async fn whoever_may_ask_for_health_alone_learns_whether_and_not_why_and_nothing_else() {
    let full = Arc::new(AtomicBool::new(false));
    let is_full = Arc::clone(&full);
    let gateway = start(move |options| {
        options.health = Some("127.0.0.1:0".parse().unwrap());
        options.ready_checks.push(ReadyCheck::new("journal", move || match is_full.load(Ordering::SeqCst) {
            true => Health::Unready("the disk is full".to_owned()),
            false => Health::Fine,
        }));
    })
    .await;
    let ask = async |request: &str| {
        let mut connection = Connection::open(gateway.health.unwrap()).await;
        connection.write(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        connection.answer().await
    };
    assert_eq!(ask("GET /live").await.json(), serde_json::json!({ "live": true }));
    assert_eq!(ask("GET /ready").await.json(), serde_json::json!({ "ready": true }));
    full.store(true, Ordering::SeqCst);
    let unready = ask("GET /ready").await;
    assert_eq!((unready.status, unready.json()), (503, serde_json::json!({ "ready": false })));
    for page in ["/metrics", "/rejections", "/config", "/log", "/", "/oss/avatars", "/live/", "//log"] {
        ask(&format!("GET {page}")).await.assert_error(404, "route_unknown");
    }
    assert_eq!(ask("PUT /log").await.status, 404);
}

#[tokio::test]
async fn shutting_down_says_so_first_and_lets_callbacks_finish() {
    let mut gateway = start(|options| {
        options.shutdown.grace = Duration::from_millis(300);
        options.limits.budget = Duration::from_secs(1);
    })
    .await;
    gateway.behave(Behaviour::Hang);
    let mut under_way = gateway.connect().await;
    under_way.write(callback("/oss/avatars")).await;
    gateway.bus.arrived.notified().await;
    let mut idle = gateway.connect().await;
    idle.write("GET /none HTTP/1.1\r\n\r\n").await;
    idle.answer().await.assert_error(404, "page_unknown");

    drop(gateway.stop.take());
    let unready = loop {
        let page = gateway.page("/ready").await;
        if page.status != 200 {
            break page;
        }
    };
    assert_eq!(unready.json()["components"][0]["reason"], "it is shutting down");
    // Within the grace, who did not notice is still served.
    let mut late = Connection::open(gateway.address).await;
    late.write("GET /none HTTP/1.1\r\n\r\n").await;
    late.answer().await.assert_error(404, "page_unknown");

    under_way.answer().await.assert_error(503, "bus_timeout");
    idle.closed().await;
    assert_eq!(timeout(LONG, gateway.task).await.unwrap().unwrap(), Ok(()));
    assert!(TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served_within_the_grace_and_let_go() {
    let mut gateway = start(|options| options.shutdown.grace = Duration::from_secs(2)).await;
    let request = callback("/oss/avatars").replacen("HTTP/1.1\r\n", "HTTP/1.0\r\nconnection: keep-alive\r\n", 1);
    let mut kept = gateway.connect().await;
    kept.write(&request).await;
    kept.answer().await.assert_accepted();
    drop(gateway.stop.take());
    while gateway.page("/ready").await.status == 200 {}
    kept.write(&request).await;
    kept.answer().await.assert_accepted();
    kept.closed().await;
    let mut new = gateway.connect().await;
    new.write(&request).await;
    new.answer().await.assert_accepted();
    new.closed().await;
    assert_eq!(timeout(LONG, gateway.task).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn a_callback_that_does_not_finish_does_not_keep_the_process() {
    let mut gateway = start(|options| options.shutdown.drain = Duration::from_millis(50)).await;
    gateway.behave(Behaviour::Hang);
    let mut under_way = gateway.connect().await;
    under_way.write(callback("/oss/avatars")).await;
    gateway.bus.arrived.notified().await;
    drop(gateway.stop.take());
    assert_eq!(timeout(LONG, gateway.task).await.unwrap().unwrap(), Err(Unfinished { connections: 1 }));
}

#[tokio::test]
async fn only_what_can_happen_is_shown_before_it_does() {
    let gateway = start(|_| {}).await;
    let text = gateway.page("/metrics").await.body;
    let has = |route: &str, outcome: &str| {
        text.contains(&format!("upcall_callbacks_total{{route=\"{route}\",outcome=\"{outcome}\"}} 0"))
    };
    for outcome in ["accepted", "duplicate", "signature_mismatch", "bus_full", "answer_too_large", "internal"] {
        assert!(has("avatars", outcome), "{outcome}: {text}");
    }
    for outcome in ["route_unknown", "head_too_large", "vetoed", "responder_timeout"] {
        assert!(!has("avatars", outcome), "{outcome} can't happen: {text}");
    }
    assert!(has("", "route_unknown") && has("", "request_malformed"), "{text}");
    for outcome in ["accepted", "signature_mismatch", "bus_full"] {
        assert!(!has("", outcome), "{outcome} can't happen without a route: {text}");
    }
}

#[tokio::test]
async fn whoever_only_consumes_has_admin_pages_and_listens_for_no_callbacks() {
    let metrics = upcall_telemetry::metrics::Metrics::new();
    let keys = upcall_verifier::Keys::new([], None, &metrics).unwrap();
    let bus = Arc::new(crate::support::Bus::default());
    let verifier = upcall_verifier::Verifier::new(keys, bus as Arc<dyn upcall_bus::Publisher>);
    let mut options = upcall_gateway::Options::new(None, verifier, metrics);
    options.admin = Some("127.0.0.1:0".parse().unwrap());
    let gateway = Gateway::bind(options).await.unwrap();
    assert_eq!(gateway.local_addr(), None);
    let mut page = Connection::open(gateway.admin_addr().unwrap()).await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(gateway.run(async { drop(stopped.await) }));
    page.write("GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(page.answer().await.status, 200);
    drop(stop);
    assert_eq!(timeout(LONG, task).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let gateway = start(|_| {}).await;
    let address = gateway.address;
    let metrics = upcall_telemetry::metrics::Metrics::new();
    let keys = upcall_verifier::Keys::new([], None, &metrics).unwrap();
    let verifier = upcall_verifier::Verifier::new(keys, Arc::clone(&gateway.bus) as Arc<dyn upcall_bus::Publisher>);
    let mut options = upcall_gateway::Options::new(address, verifier, metrics);
    options.routes = vec![crate::support::route("avatars", "/oss/avatars", None)];
    let error = Gateway::bind(options).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} can't be listened on"));
}
