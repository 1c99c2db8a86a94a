//! The sink against a server whose every answer the test chooses.

use std::time::Duration;

use tokio::time::Instant;
use upcall_consumer::{Item, Sink as _, Verdict};
use upcall_egress::testing::{Act, Request, Server};
use upcall_egress::{ClientOptions, Guard};
use upcall_event::{Event, Subject};
use upcall_responder::AnswerTemplate;

use super::{chats, event};
use crate::notice::{Digest, Message};
use crate::{Chat, ChatKind, JsonPost, NotifySink, Options, Service};

pub(super) fn options(service: Service) -> Options {
    Options {
        rates: service.rates(),
        service,
        message: Message::default(),
        digest: None,
        client: ClientOptions {
            guard: Guard::new(vec!["127.0.0.1".parse().unwrap()]),
            timeout: Duration::from_secs(5),
            ..ClientOptions::default()
        },
        patience: Duration::from_secs(20),
    }
}

fn chat(kind: ChatKind, server: &Server) -> Options {
    let endpoint = format!("http://127.0.0.1:{}/hook?key=k", server.port).parse().unwrap();
    options(Service::Chat(Chat { kind, endpoint }))
}

pub(super) async fn deliver(sink: &NotifySink, events: &[&Event]) -> Vec<Verdict> {
    let subject: Subject = "upcall.uploads.examplebucket.PutObject".parse().unwrap();
    let items: Vec<_> = (1..)
        .zip(events)
        .map(|(sequence, event)| Item { subject: &subject, event, attempt: 1, sequence, span: None })
        .collect();
    sink.deliver(&items).await
}

/// JSON to whoever relays it further.
fn relay(server: &Server) -> Options {
    let post = JsonPost {
        endpoint: format!("http://127.0.0.1:{}/hook", server.port).parse().unwrap(),
        body: AnswerTemplate::new(&serde_json::json!({ "file": "${object}" })).unwrap(),
        headers: [].into_iter().collect(),
    };
    options(Service::Json(Box::new(post)))
}

/// Does one thing with a message about an object of this name, and takes all others.
async fn poisoned(act: Act) -> Server {
    Server::start(move |request: &Request, _| match String::from_utf8_lossy(&request.body).contains("poison") {
        true => act.clone(),
        false => Act::answer(200, "", "ok"),
    })
    .await
}

/// What the sink makes of an answer, of each kind of service.
async fn judged(kind: ChatKind, status: u16, headers: &str, body: &str) -> Verdict {
    let server = Server::answering(status, headers, body).await;
    let sink = NotifySink::new(Options { patience: Duration::from_secs(6), ..chat(kind, &server) }).unwrap();
    deliver(&sink, &[&event("a")]).await.remove(0)
}

#[track_caller]
pub(super) fn check(verdict: &Verdict, expected: &str, reason: &str) {
    let (kind, said) = match verdict {
        Verdict::Done => ("done", ""),
        Verdict::Retry { reason, .. } => ("retry", reason.as_str()),
        Verdict::Dead { reason } => ("dead", reason.as_str()),
        Verdict::Unavailable { reason } => ("unavailable", reason.as_str()),
    };
    assert!(kind == expected && said.contains(reason), "{verdict:?} is not {expected}: {reason}");
}

#[tokio::test]
async fn an_answer_means_what_its_service_says_it_means() {
    let ding = || ChatKind::DingTalk { secret: None };
    let feishu = || ChatKind::Feishu { secret: None };
    let cases = [
        (ChatKind::Slack, 200, "", "ok", "done", ""),
        (ChatKind::Slack, 400, "", "invalid_payload", "dead", "invalid_payload"),
        (ChatKind::Slack, 404, "", "no_service", "unavailable", "no_service"),
        (ChatKind::Slack, 429, "Retry-After: 30\r\n", "rate_limited", "unavailable", "too many messages"),
        (ChatKind::Slack, 500, "", "rollup_error", "retry", "rollup_error"),
        (ChatKind::Slack, 302, "Location: http://127.0.0.1/\r\n", "", "retry", "302"),
        (ChatKind::Teams, 202, "", "", "done", ""),
        (
            ChatKind::Teams,
            200,
            "",
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429",
            "unavailable",
            "429",
        ),
        (ChatKind::Teams, 413, "", "", "dead", "413"),
        (ChatKind::Discord, 204, "", "", "done", ""),
        (
            ChatKind::Discord,
            429,
            "",
            r#"{"message":"You are being rate limited.","retry_after":64.57,"global":false}"#,
            "unavailable",
            "rate limited",
        ),
        (ChatKind::Discord, 404, "", r#"{"message":"Unknown Webhook","code":10015}"#, "unavailable", "Unknown Webhook"),
        (ChatKind::Discord, 400, "", r#"{"embeds":["0"]}"#, "dead", "embeds"),
        (ding(), 200, "", r#"{"errcode":0,"errmsg":"ok"}"#, "done", ""),
        (
            ding(),
            200,
            "",
            r#"{"errcode":130101,"errmsg":"send too fast, exceed 20 times per minute"}"#,
            "unavailable",
            "too fast",
        ),
        (
            ding(),
            200,
            "",
            r#"{"errcode":310000,"errmsg":"keywords not in content, more: [https://x]"}"#,
            "dead",
            "keywords",
        ),
        (
            ding(),
            200,
            "",
            r#"{"errcode":310000,"errmsg":"sign not match, more: [https://x]"}"#,
            "unavailable",
            "sign not match",
        ),
        (ding(), 200, "", r#"{"errcode":300005,"errmsg":"token is not exist"}"#, "unavailable", "token"),
        (ding(), 200, "", r#"{"errcode":999999,"errmsg":"who knows"}"#, "retry", "who knows"),
        (ding(), 200, "", "<html>", "retry", "<html>"),
        (
            feishu(),
            200,
            "",
            r#"{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}"#,
            "done",
            "",
        ),
        (feishu(), 200, "", r#"{"code":11232,"data":{},"msg":"frequency limited psm[x]"}"#, "unavailable", "frequency"),
        (feishu(), 400, "", r#"{"code":9499,"msg":"too many request","data":{}}"#, "unavailable", "too many"),
        (feishu(), 200, "", r#"{"code":9499,"msg":"Bad Request","data":{}}"#, "dead", "Bad Request"),
        (
            feishu(),
            200,
            "",
            r#"{"code":19021,"msg":"sign match fail or timestamp is not within one hour from current time"}"#,
            "unavailable",
            "sign match",
        ),
        (feishu(), 200, "", r#"{"code":19024,"msg":"Key Words Not Found"}"#, "dead", "Key Words"),
        (ChatKind::WeCom, 200, "", r#"{"errcode":0,"errmsg":"ok"}"#, "done", ""),
        (ChatKind::WeCom, 200, "", r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#, "unavailable", "freq"),
        (
            ChatKind::WeCom,
            200,
            "",
            r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#,
            "unavailable",
            "invalid webhook",
        ),
        (
            ChatKind::WeCom,
            200,
            "",
            r#"{"errcode":40058,"errmsg":"text.content exceed max length 2048"}"#,
            "dead",
            "exceed",
        ),
        (ChatKind::WeCom, 503, "", "", "retry", "503"),
        (ChatKind::Slack, 403, "", "<html>blocked by a filter", "retry", "403"),
        (ChatKind::Slack, 504, "", "", "retry", "504"),
    ];
    for (kind, status, headers, body, expected, reason) in cases {
        check(&judged(kind, status, headers, body).await, expected, reason);
    }
}

#[tokio::test]
async fn a_service_that_asks_for_quiet_gets_it_and_then_the_message() {
    let server = Server::start(|_, before| match before {
        0 => Act::answer(429, "Retry-After: 1\r\n", "rate_limited"),
        _ => Act::answer(200, "", "ok"),
    })
    .await;
    let sink = NotifySink::new(chat(ChatKind::Slack, &server)).unwrap();
    let begin = Instant::now();
    assert_eq!(deliver(&sink, &[&event("a")]).await, [Verdict::Done]);
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_service_that_asks_for_long_quiet_is_not_even_tried_before_it_is_over() {
    let server = Server::answering(200, "", r#"{"errcode":130101,"errmsg":"send too fast"}"#).await;
    let sink = NotifySink::new(chat(ChatKind::DingTalk { secret: None }, &server)).unwrap();
    sink.prepare().await.unwrap();
    let events = [event("a"), event("b")];
    for verdict in deliver(&sink, &[&events[0], &events[1]]).await {
        check(&verdict, "unavailable", "too fast");
    }
    let error = sink.prepare().await.unwrap_err().to_string();
    assert!(error.contains("too fast") && error.ends_with("the next message goes out in 600 s"), "{error}");
    check(&deliver(&sink, &[&events[0]]).await[0], "unavailable", "no more messages for now");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_event_is_told_once_however_often_it_is_delivered() {
    for (_, kind) in chats() {
        let server = Server::answering(200, "", r#"{"errcode":0,"code":0}"#).await;
        let sink = NotifySink::new(chat(kind, &server)).unwrap();
        let (first, second) = (event("a"), event("b"));
        assert_eq!(deliver(&sink, &[&first, &second, &first]).await, vec![Verdict::Done; 3]);
        assert_eq!(deliver(&sink, &[&second]).await, [Verdict::Done]);
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test]
async fn one_message_that_is_refused_is_no_other_event_s_end() {
    let server =
        Server::start(|request: &Request, _| match String::from_utf8_lossy(&request.body).contains("poison") {
            true => Act::answer(400, "", "invalid_payload"),
            false => Act::answer(200, "", "ok"),
        })
        .await;
    let sink = NotifySink::new(Options { rates: Vec::new(), ..chat(ChatKind::Slack, &server) }).unwrap();
    let verdicts = deliver(&sink, &[&event("a"), &event("poison"), &event("c")]).await;
    assert_eq!((&verdicts[0], &verdicts[2]), (&Verdict::Done, &Verdict::Done));
    check(&verdicts[1], "dead", "invalid_payload");
}

#[tokio::test]
async fn one_event_that_a_service_can_not_take_holds_up_no_other_and_counts() {
    let acts = [401, 403, 404, 405, 410, 429, 500, 502, 503, 504].map(|status| Act::answer(status, "", "no"));
    for act in acts.into_iter().chain([Act::Close, Act::SayAndHang(Vec::new())]) {
        let server = poisoned(act.clone()).await;
        let mut options = relay(&server);
        options.client.timeout = Duration::from_millis(300);
        let sink = NotifySink::new(options).unwrap();
        let verdicts = deliver(&sink, &[&event("poison"), &event("b")]).await;
        check(&verdicts[0], "retry", "");
        assert_eq!(verdicts[1], Verdict::Done, "{act:?}");
    }
    for act in [Act::answer(403, "", "no"), Act::answer(502, "", ""), Act::Close, Act::SayAndHang(Vec::new())] {
        let server = poisoned(act.clone()).await;
        let mut options = Options { rates: Vec::new(), ..chat(ChatKind::Slack, &server) };
        options.client.timeout = Duration::from_millis(300);
        let sink = NotifySink::new(options).unwrap();
        let verdicts = deliver(&sink, &[&event("poison"), &event("b")]).await;
        check(&verdicts[0], "retry", "");
        assert_eq!(verdicts[1], Verdict::Done, "{act:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_again_and_again_is_left_alone_and_then_tried_with_one_event() {
    let server = Server::start(|_, before| match before {
        0..6 => Act::answer(503, "", ""),
        _ => Act::answer(200, "", ""),
    })
    .await;
    let sink = NotifySink::new(relay(&server)).unwrap();
    let events: Vec<Event> = (0..8).map(|number| event(&number.to_string())).collect();
    let all: Vec<&Event> = events.iter().collect();
    let counted = |verdicts: &[Verdict]| verdicts.iter().filter(|one| matches!(one, Verdict::Retry { .. })).count();
    let verdicts = deliver(&sink, &all).await;
    assert_eq!((counted(&verdicts), server.requests().len()), (5, 5), "{verdicts:?}");
    check(&verdicts[5], "unavailable", "5 in a row");
    for tries in [6, 7] {
        let begin = Instant::now();
        while sink.prepare().await.is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "it is tried again in the end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let verdicts = deliver(&sink, &all[..1]).await;
        assert_eq!(server.requests().len(), tries, "{verdicts:?}");
    }
    assert_eq!(deliver(&sink, &all).await, vec![Verdict::Done; 8]);
}

#[tokio::test]
async fn a_service_is_believed_an_hour_of_quiet_and_no_more() {
    for options in [
        (|server: &Server| chat(ChatKind::Slack, server)) as fn(&Server) -> Options,
        |server| chat(ChatKind::Discord, server),
        relay,
    ] {
        let server = Server::answering(429, "Retry-After: 99999999\r\n", r#"{"retry_after":99999999.0}"#).await;
        let sink = NotifySink::new(options(&server)).unwrap();
        deliver(&sink, &[&event("a")]).await;
        let error = sink.prepare().await.unwrap_err().to_string();
        assert!(error.contains("goes out in 3600 s"), "{error}");
    }
}

#[tokio::test]
async fn a_digest_that_fails_again_and_again_is_told_without_names() {
    let server = poisoned(Act::answer(403, "", "")).await;
    let digest = Digest { window: Duration::from_secs(60), list: 3.try_into().unwrap() };
    let sink =
        NotifySink::new(Options { digest: Some(digest), rates: Vec::new(), ..chat(ChatKind::Slack, &server) }).unwrap();
    let events = [event("a"), event("poison")];
    let subject: Subject = "upcall.uploads.examplebucket.PutObject".parse().unwrap();
    for (attempt, is_told) in [(1, false), (3, false), (4, true)] {
        let item = |event| Item { subject: &subject, event, attempt, sequence: 1, span: None };
        let verdicts = sink.deliver(&events.iter().map(item).collect::<Vec<_>>()).await;
        assert_eq!(verdicts.iter().all(|verdict| *verdict == Verdict::Done), is_told, "{verdicts:?}");
    }
}

#[tokio::test]
async fn a_burst_is_one_message_and_settles_every_event_of_it() {
    let server = Server::answering(200, "", "ok").await;
    let digest = Digest { window: Duration::from_secs(60), list: 3.try_into().unwrap() };
    let sink = NotifySink::new(Options { digest: Some(digest), ..chat(ChatKind::Slack, &server) }).unwrap();
    let events: Vec<Event> = (0..37).map(|number| event(&format!("{number:02}.jpg"))).collect();
    let all: Vec<&Event> = events.iter().collect();
    assert_eq!(deliver(&sink, &all).await, vec![Verdict::Done; 37]);
    assert_eq!(deliver(&sink, &all).await, vec![Verdict::Done; 37], "and tells nothing twice");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let text = String::from_utf8_lossy(&requests[0].body).into_owned();
    assert!(
        text.contains("37 uploads in examplebucket") && text.contains("02.jpg") && text.contains("… and 34 more"),
        "{text}"
    );
    assert!(!text.contains("03.jpg"), "{text}");
}

#[tokio::test]
async fn a_digest_with_a_name_that_is_refused_is_sent_without_names() {
    let server =
        Server::start(|request: &Request, _| match String::from_utf8_lossy(&request.body).contains("poison") {
            true => Act::answer(400, "", "invalid_payload"),
            false => Act::answer(200, "", "ok"),
        })
        .await;
    let digest = Digest { window: Duration::from_secs(60), list: 3.try_into().unwrap() };
    let sink =
        NotifySink::new(Options { digest: Some(digest), rates: Vec::new(), ..chat(ChatKind::Slack, &server) }).unwrap();
    assert_eq!(deliver(&sink, &[&event("a"), &event("poison")]).await, vec![Verdict::Done; 2]);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn the_rate_is_kept_by_waiting() {
    let server = Server::answering(200, "", "ok").await;
    let rates = vec!["2/s".parse().unwrap()];
    let sink = NotifySink::new(Options { rates, ..chat(ChatKind::Slack, &server) }).unwrap();
    let events: Vec<Event> = (0..5).map(|number| event(&number.to_string())).collect();
    let begin = Instant::now();
    assert_eq!(deliver(&sink, &events.iter().collect::<Vec<_>>()).await, vec![Verdict::Done; 5]);
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn discord_s_headers_are_obeyed() {
    let server = Server::answering(204, "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset-After: 1.5\r\n", "").await;
    let sink = NotifySink::new(chat(ChatKind::Discord, &server)).unwrap();
    let begin = Instant::now();
    assert_eq!(deliver(&sink, &[&event("a"), &event("b")]).await, vec![Verdict::Done; 2]);
    assert!(begin.elapsed() >= Duration::from_millis(1500), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn json_is_filled_in_as_values_and_carries_the_id() {
    let server = Server::answering(201, "", "").await;
    let body =
        serde_json::json!({ "file": "${object}", "bytes": "${size}", "text": "from ${bucket}", "vpc": "${vpc_id}" });
    let post = JsonPost {
        endpoint: format!("http://127.0.0.1:{}/hook", server.port).parse().unwrap(),
        body: AnswerTemplate::new(&body).unwrap(),
        headers: [upcall_egress::header("authorization", "Bearer hunter2").unwrap()].into_iter().collect(),
    };
    let sink = NotifySink::new(options(Service::Json(Box::new(post)))).unwrap();
    let event = event("a\",\"b\":\"c");
    assert_eq!(deliver(&sink, &[&event]).await, [Verdict::Done]);
    let request = server.requests().remove(0);
    let posted: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        posted,
        serde_json::json!({ "file": "a\",\"b\":\"c", "bytes": 1_234_567, "text": "from examplebucket", "vpc": null })
    );
    assert_eq!(request.header("idempotency-key"), Some(event.id.to_string().as_str()));
    assert_eq!(request.header("authorization"), Some("Bearer hunter2"));
}

#[tokio::test]
async fn a_private_address_is_not_called_unless_it_is_allowed_and_nobody_there_costs_no_event() {
    let server = Server::answering(200, "", "ok").await;
    let mut refused = chat(ChatKind::Slack, &server);
    refused.client.guard = Guard::default();
    let sink = NotifySink::new(refused).unwrap();
    check(&deliver(&sink, &[&event("a")]).await[0], "unavailable", "may not be called");
    assert_eq!(server.requests().len(), 0);

    let service = Service::Chat(Chat { kind: ChatKind::Slack, endpoint: "http://127.0.0.1:1/".parse().unwrap() });
    check(
        &deliver(&NotifySink::new(options(service)).unwrap(), &[&event("a")]).await[0],
        "unavailable",
        "can't be reached",
    );
}
