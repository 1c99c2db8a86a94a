//! The endpoint as a whole: out of reach, out of order, busy, gone.

use upcall_egress::Endpoint;

use super::*;

#[tokio::test]
async fn an_endpoint_that_nobody_reaches_costs_no_event_an_attempt_and_is_tried_by_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let server = Server::answering(200, "", "").await;
    let endpoint: Endpoint = format!("http://{address}/?token=hunter2").parse().unwrap();
    let sink = sink(Options { endpoint, ..options(&server) });
    let verdicts = deliver(&sink, &["a"; 5]).await;
    assert!(verdicts.iter().all(is_unavailable), "{verdicts:?}");
    assert!(sink.prepare().await.is_err(), "it is left alone for a while");
    prepared(&sink).await;
    // Now somebody listens there, and takes the trial: the others follow in the same batch.
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(upcall_egress::testing::serve(stream, |_, _| Act::answer(200, "", "")));
        }
    });
    assert!(deliver(&sink, &["a"; 5]).await.iter().all(|verdict| *verdict == Verdict::Done));
    assert!(sink.prepare().await.is_ok());
}

#[tokio::test]
async fn an_address_that_may_not_be_called_is_not_and_its_events_wait() {
    let server = Server::answering(200, "", "").await;
    for host in ["127.0.0.1", "localhost", "[::ffff:7f00:1]", "2130706433"] {
        let endpoint: Endpoint = format!("http://{host}:{}/?token=hunter2", server.port).parse().unwrap();
        let sink = sink(Options { endpoint, client: ClientOptions::default(), ..options(&server) });
        let verdicts = deliver(&sink, &["a", "b"]).await;
        assert!(verdicts.iter().all(is_unavailable), "{verdicts:?}");
        assert!(format!("{verdicts:?}").contains("this machine's own address"), "{verdicts:?}");
        assert!(format!("{verdicts:?}").contains("Add it to `allow_networks`"), "{verdicts:?}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_endpoint_that_fails_again_and_again_is_left_alone_and_only_those_it_answered_lose_an_attempt() {
    let server = Server::answering(500, "", "").await;
    let options = Options { concurrency: NonZeroUsize::MIN, ..options(&server) };
    let sink = sink(options);
    let verdicts = deliver(&sink, &["a"; 10]).await;
    assert!(verdicts[..3].iter().all(is_retry) && verdicts[3..].iter().all(is_unavailable), "{verdicts:?}");
    assert_eq!(server.requests().len(), 3);
    let verdicts = deliver(&sink, &["a"; 10]).await;
    assert!(verdicts.iter().all(is_unavailable), "{verdicts:?}");
    prepared(&sink).await;
    let verdicts = deliver(&sink, &["a"; 10]).await;
    assert!(is_retry(&verdicts[0]) && verdicts[1..].iter().all(is_unavailable), "{verdicts:?}");
    assert_eq!(server.requests().len(), 4, "one tries");
}

#[tokio::test]
async fn whoever_asks_why_an_endpoint_is_left_alone_is_told_its_last_answer() {
    let server = Server::answering(401, "", "invalid token").await;
    let sink = sink(Options { concurrency: NonZeroUsize::MIN, ..options(&server) });
    assert_eq!(sink.fault(), None);
    let verdicts = deliver(&sink, &["a"; 4]).await;
    let said =
        "the endpoint answered with status 401 Unauthorized: invalid token (3 in a row); one event tries again in 1 s";
    assert_eq!(verdicts[3].reason(), Some(said));
    assert_eq!(sink.prepare().await.unwrap_err().to_string(), said);
    assert_eq!(sink.fault().as_deref(), Some(said));
    prepared(&sink).await;
    let verdicts = deliver(&sink, &["a"]).await;
    assert!(is_retry(&verdicts[0]), "{verdicts:?}");
    assert!(sink.fault().is_some_and(|fault| fault.contains("(4 in a row)")), "a trial that fails is no success");
}

#[tokio::test]
async fn an_endpoint_that_is_too_busy_is_left_alone_as_long_as_it_asks() {
    let server = Server::start(|_, before| match before {
        0 => Act::answer(429, "retry-after: 1\r\n", ""),
        _ => Act::answer(200, "", ""),
    })
    .await;
    let sink = sink(Options { concurrency: NonZeroUsize::MIN, ..options(&server) });
    let begun = Instant::now();
    let verdicts = deliver(&sink, &["a", "b", "c"]).await;
    assert!(is_retry(&verdicts[0]) && verdicts[1..].iter().all(is_unavailable), "{verdicts:?}");
    assert_eq!(server.requests().len(), 1);
    let fault = sink.fault().unwrap();
    assert!(fault.contains("status 429") && fault.contains("it has asked by Retry-After"), "{fault}");
    prepared(&sink).await;
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    assert!(deliver(&sink, &["a", "b", "c"]).await.iter().all(|verdict| *verdict == Verdict::Done));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_not_called_again_and_its_events_wait() {
    let server = Server::answering(410, "", "moved away").await;
    let sink = sink(Options { concurrency: NonZeroUsize::MIN, ..options(&server) });
    for _ in 0..3 {
        let verdicts = deliver(&sink, &["a", "b"]).await;
        assert!(verdicts.iter().all(is_unavailable), "{verdicts:?}");
        let error = sink.prepare().await.unwrap_err().to_string();
        assert!(error.contains("410") && error.contains("any change, with a reload"), "{error}");
    }
    assert_eq!(server.requests().len(), 1);
}
