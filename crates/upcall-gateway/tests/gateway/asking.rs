//! Answers that a service of the application's computes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use upcall_bus::PublishErrorKind;
use upcall_callback::{AnswerHead, check_answer};
use upcall_responder::When;

use crate::service::{Act, Adjust, Service, response};
use crate::support::{Answer, Behaviour, LONG, Running, callback, route, start};

const ASKED: &str = "/oss/asked";
const ANSWER: &str = r#"{"url":"https://cdn.example.com/1"}"#;

/// A gateway with one route that asks the service.
async fn asking(service: &Service, adjust: impl FnOnce(&mut upcall_responder::AskingOptions)) -> Running {
    let route = service.route("asked", adjust);
    start(|options| options.routes = vec![route]).await
}

#[tokio::test]
async fn the_uploader_gets_the_services_answer_to_the_published_event() {
    let service = Service::start(Act::Say(response(200, ANSWER))).await;
    for when in [When::Before, When::After] {
        let gateway = asking(&service, |options| options.when = when).await;
        let answer = gateway.send(callback(ASKED)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(gateway.bus.published.lock().unwrap()[0].event, *service.asked().last().unwrap());
        gateway.wait_for_metric("upcall_service_questions_total{route=\"asked\",outcome=\"answered\"} 1").await;
    }
}

/// Everything that a service can do wrong, and whether it is a matter of time.
async fn faults() -> Vec<(&'static str, Service, bool)> {
    let said = |status, body: &str| Act::Say(response(status, body));
    let long = format!("\"{}\"", "x".repeat(2 * 1024 * 1024));
    let acts = [
        ("slow", Act::SayAndHang(Vec::new()), true),
        ("hangs within its head", Act::SayAndHang(b"HTTP/1.1 200 OK\r\ncontent-".into()), true),
        ("hangs within its body", Act::SayAndHang(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{".into()), true),
        ("breaks off", Act::Say(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{".into()), false),
        ("closes the connection", Act::Close, false),
        ("no HTTP", Act::Say(b"hello".into()), false),
        ("no JSON", said(200, "{'Status': 'OK'}"), false),
        ("a byte order mark", said(200, "\u{feff}{}"), false),
        ("2 MB", said(200, &long), false),
        ("empty", said(200, ""), false),
        ("no content", Act::Say(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".into()), false),
        ("a redirect", said(302, "{}"), false),
        ("an error", said(500, "{}"), false),
        ("too many requests", said(429, "{}"), false),
    ];
    let mut faults = vec![("missing", Service::missing().await, false)];
    for (name, act, is_late) in acts {
        faults.push((name, Service::start(act).await, is_late));
    }
    faults
}

#[tokio::test]
async fn a_service_that_has_no_say_ends_in_the_fallback_or_in_a_failure_in_time() {
    for (name, service, is_late) in faults().await {
        for (when, has_fallback) in
            [(When::After, false), (When::After, true), (When::Before, false), (When::Before, true)]
        {
            let gateway = asking(&service, |options| {
                options.when = when;
                if has_fallback {
                    options.fallback();
                }
            })
            .await;
            let begin = Instant::now();
            let answer = gateway.send(callback(ASKED)).await;
            let elapsed = begin.elapsed();
            let case = format!("{name}, {when:?}, fallback: {has_fallback}: {answer:?}");
            if has_fallback {
                assert_fallback(&answer);
            } else if is_late {
                answer.assert_error(504, "responder_timeout");
            } else {
                answer.assert_error(502, "responder_failed");
            }
            let is_published = has_fallback || when == When::After;
            assert_eq!(gateway.published(), usize::from(is_published), "{case}");
            assert!(elapsed < Duration::from_secs(2), "{elapsed:?} with a timeout of 250 ms: {case}");
        }
    }
}

#[track_caller]
fn assert_fallback(answer: &Answer) {
    assert_eq!((answer.status, answer.json()), (200, json!({ "Status": "later", "object": "dir/a.png" })));
}

#[tokio::test]
async fn a_veto_leaves_no_event_whether_there_is_a_fallback_or_not() {
    for (status, has_fallback) in [(403, false), (403, true), (422, false), (422, true), (404, true)] {
        let service = Service::start(Act::Say(response(status, r#"{"reason":"quota used up"}"#))).await;
        let gateway = asking(&service, |options| {
            options.before();
            if has_fallback {
                options.fallback();
            }
        })
        .await;
        let answer = gateway.send(callback(ASKED)).await;
        answer.assert_error(403, "vetoed");
        assert_eq!(answer.json()["error"]["message"], "quota used up");
        assert_eq!(gateway.published(), 0);
        gateway.wait_for_metric("upcall_callbacks_total{route=\"asked\",outcome=\"vetoed\"} 1").await;
        gateway.wait_for_metric("upcall_service_questions_total{route=\"asked\",outcome=\"vetoed\"} 1").await;
        let rejection = &gateway.page("/rejections").await.json()[0];
        assert_eq!((&rejection["code"], &rejection["route"]), (&json!("vetoed"), &json!("asked")));
        assert_eq!(rejection["reason"], "the service vetoed: quota used up");
    }
}

#[tokio::test]
async fn a_veto_that_hangs_within_its_body_is_one_all_the_same() {
    let hangs = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 20\r\n\r\n{";
    let service = Service::start(Act::SayAndHang(hangs.into())).await;
    let gateway = asking(&service, |options| _ = options.before().fallback()).await;
    gateway.send(callback(ASKED)).await.assert_error(403, "vetoed");
    assert_eq!(gateway.published(), 0);
}

#[tokio::test]
async fn a_veto_is_relayed_where_the_route_says_so() {
    for (body, relayed) in [(r#"{"reason":"quota","left":0}"#, true), ("quota", false), ("\u{feff}{}", false)] {
        let service = Service::start(Act::Say(response(422, body))).await;
        let gateway = asking(&service, |options| _ = options.before().relay()).await;
        let answer = gateway.send(callback(ASKED)).await;
        if relayed {
            assert_eq!((answer.status, answer.body.as_str()), (200, body));
        } else {
            answer.assert_error(200, "vetoed");
        }
        assert_eq!(gateway.published(), 0);
        gateway.wait_for_metric("upcall_callbacks_total{route=\"asked\",outcome=\"vetoed\"} 1").await;
        assert_eq!(gateway.page("/rejections").await.json()[0]["code"], "vetoed");
    }
}

#[tokio::test]
async fn a_veto_of_an_event_that_is_durable_is_a_failure() {
    let service = Service::start(Act::Say(response(403, "{}"))).await;
    let gateway = asking(&service, |_| {}).await;
    gateway.send(callback(ASKED)).await.assert_error(502, "responder_failed");
    assert_eq!(gateway.published(), 1);
    gateway.wait_for_metric("upcall_service_questions_total{route=\"asked\",outcome=\"veto_too_late\"} 1").await;
    let rejection = &gateway.page("/rejections").await.json()[0];
    assert!(rejection["reason"].as_str().unwrap().contains("the event is durable"), "{rejection}");
}

#[tokio::test]
async fn what_is_uploaded_again_is_asked_again_about_the_same_event() {
    let service = Service::start(Act::Close).await;
    let gateway = asking(&service, |_| {}).await;
    gateway.send(callback(ASKED)).await.assert_error(502, "responder_failed");
    service.act(Act::Say(response(200, ANSWER)));
    gateway.behave(Behaviour::Duplicate);
    let answer = gateway.send(callback(ASKED)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
    let ids: HashSet<_> = service.asked().iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 1);
    gateway.wait_for_metric("upcall_callbacks_total{route=\"asked\",outcome=\"duplicate\"} 1").await;
}

#[tokio::test]
async fn what_is_not_durable_is_never_answered_with_the_services_answer() {
    let service = Service::start(Act::Say(response(200, ANSWER))).await;
    for when in [When::Before, When::After] {
        let gateway = asking(&service, |options| {
            options.when = when;
            options.fallback();
        })
        .await;
        gateway.behave(Behaviour::Fail(PublishErrorKind::Unavailable));
        gateway.send(callback(ASKED)).await.assert_error(503, "bus_unavailable");
    }
    assert_eq!(service.asked().len(), 1, "after: it is not asked about what is no event");
}

#[tokio::test]
async fn no_answer_is_later_than_the_deadline_however_long_the_service_may_take() {
    let budget = Duration::from_millis(1000);
    let service = Service::start(Act::SayAndHang(Vec::new())).await;
    for when in [When::Before, When::After] {
        let route = service.route("asked", |options| {
            options.when = when;
            options.timeout = Duration::from_secs(60);
            options.fallback();
        });
        let gateway = start(|options| {
            options.limits.budget = budget;
            options.routes = vec![route];
        })
        .await;
        let begin = Instant::now();
        assert_fallback(&gateway.send(callback(ASKED)).await);
        let elapsed = begin.elapsed();
        assert!(elapsed < budget, "{elapsed:?}, {when:?}");
        assert_eq!(gateway.published(), 1);
        if when == When::Before {
            let left = gateway.bus.left.lock().unwrap().unwrap();
            assert!(left > Duration::from_millis(200), "publishing got {left:?}");
        }
    }
}

#[tokio::test]
async fn a_service_that_hangs_takes_no_other_route_down() {
    let service = Service::start(Act::SayAndHang(Vec::new())).await;
    // More questions than callbacks are worked on at a time; and fewer than there are.
    for when in [When::Before, When::After] {
        let asked = service.route("asked", |options| {
            options.when = when;
            options.timeout = Duration::from_secs(2);
            options.concurrency(16);
        });
        let gateway = start(|options| {
            options.limits.callbacks_max = 4;
            options.routes = vec![asked, route("plain", "/oss/plain", None)];
        })
        .await;
        let before = service.asked().len();
        let mut waiting = JoinSet::new();
        for _ in 0..16 {
            let mut connection = gateway.connect().await;
            connection.write(callback(ASKED)).await;
            // One by one, as no more than four may be worked on at once.
            gateway.wait_for_metric(&format!("upcall_callbacks_in_flight {}", waiting.len() + 1)).await;
            waiting.spawn(async move { connection.answer().await });
        }
        let all_asked = async {
            while service.asked().len() < before + 16 {
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, all_asked).await.expect("all are asked about");
        let begin = Instant::now();
        gateway.send(callback(ASKED)).await.assert_error(503, "responder_busy");
        gateway.send(callback("/oss/plain")).await.assert_accepted();
        assert!(begin.elapsed() < Duration::from_secs(1), "at once");
        while let Some(answer) = waiting.join_next().await {
            answer.unwrap().assert_error(504, "responder_timeout");
        }
        // And then it has room again.
        service.act(Act::Say(response(200, ANSWER)));
        assert_eq!(gateway.send(callback(ASKED)).await.body, ANSWER);
        service.act(Act::SayAndHang(Vec::new()));
    }
}

/// Some bytes that a service may say: nearly HTTP, nearly JSON, or nearly a veto; whole or not, and hanging or not.
fn any_act() -> impl Strategy<Value = Act> {
    let status = prop_oneof![Just(200), Just(403), 200..600_u16];
    let body = prop_oneof![
        Just(ANSWER.to_owned()),
        Just(r#"{"reason":"no"}"#.to_owned()),
        any::<String>(),
        any::<Vec<i64>>().prop_map(|numbers| json!(numbers).to_string()),
    ];
    let said = (status, body, any::<prop::sample::Index>(), any::<bool>(), 0..6_u8);
    said.prop_map(|(status, body, cut, is_whole, hanging)| {
        let mut bytes = response(status, body);
        if !is_whole {
            bytes.truncate(cut.index(bytes.len()));
        }
        if hanging == 0 { Act::SayAndHang(bytes) } else { Act::Say(bytes) }
    })
}

/// Whatever a service says: OSS gets an answer that it relays, and there is an event; or a documented failure.
#[test]
fn whatever_a_service_says_the_answer_is_valid_and_never_a_false_success() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (service, gateway) = runtime.block_on(async {
        let service = Service::start(Act::Close).await;
        let routes = ["after", "after_else", "before", "before_else"].map(|name| {
            service.route(name, |options| {
                options.timeout = Duration::from_millis(100);
                if name.starts_with("before") {
                    options.before();
                }
                if name.ends_with("else") {
                    options.fallback();
                }
            })
        });
        let gateway = start(|options| options.routes = routes.into()).await;
        (service, gateway)
    });
    let mut runner = TestRunner::new(Config { cases: 96, ..Config::default() });
    let outcome = runner.run(&any_act(), |act| {
        service.act(act);
        for path in ["after", "after_else", "before", "before_else"] {
            let (is_before, has_fallback) = (path.starts_with("before"), path.ends_with("else"));
            let already = gateway.published();
            let begin = Instant::now();
            let answer = runtime.block_on(gateway.send(callback(&format!("/oss/{path}"))));
            prop_assert!(begin.elapsed() < Duration::from_secs(2), "in time: {answer:?}");
            let published = gateway.published() - already;
            let length = answer.headers.get("content-length").map(String::as_str);
            let head = AnswerHead { status: answer.status, content_length: length };
            let is_relayed = check_answer(head, answer.body.as_bytes()).is_ok();
            let code = if is_relayed { String::new() } else { answer.json()["error"]["code"].to_string() };
            match answer.status {
                200 => prop_assert!(is_relayed && published == 1, "{answer:?}"),
                403 => prop_assert!(is_before && code == "\"vetoed\"" && published == 0, "{answer:?}"),
                502 | 504 => {
                    prop_assert!(!has_fallback && code.starts_with("\"responder_"), "{answer:?}");
                    prop_assert_eq!(published, usize::from(!is_before));
                }
                other => prop_assert!(false, "status {}: {:?}", other, answer),
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
