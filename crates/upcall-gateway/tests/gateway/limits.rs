//! Everything has a limit.

use std::time::{Duration, Instant};

use upcall_gateway::Limits;

use crate::support::{BODY, Behaviour, callback, headers, signed_callback, start};

const SOON: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let gateway = start(|_| {}).await;
    let headers = headers("/oss/avatars", BODY);
    // Not a byte of the body is sent.
    gateway
        .send(format!("POST /oss/avatars HTTP/1.1\r\n{headers}content-length: 131073\r\n\r\n"))
        .await
        .assert_error(413, "body_too_large");
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_refused_on_the_way() {
    let gateway = start(|options| options.limits.body_bytes_max = 1000).await;
    let headers = headers("/oss/avatars", BODY);
    let chunk = format!("1f4\r\n{}\r\n", "x".repeat(500));
    let request =
        format!("POST /oss/avatars HTTP/1.1\r\n{headers}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(3));
    gateway.send(request).await.assert_error(413, "body_too_large");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let gateway = start(|options| options.limits.body_time = SOON).await;
    let mut connection = gateway.connect().await;
    let request = callback("/oss/avatars");
    let begin = Instant::now();
    connection.write(&request[..request.len() - 1]).await;
    connection.answer().await.assert_error(408, "body_timeout");
    assert!(begin.elapsed() < Duration::from_secs(4), "its share is less than the whole budget");
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_callback() {
    let gateway = start(|_| {}).await;
    let mut connection = gateway.connect().await;
    let request = callback("/oss/avatars");
    connection.write(&request[..request.len() - 1]).await;
    tokio::io::AsyncWriteExt::shutdown(&mut connection.stream).await.unwrap();
    connection.answer().await.assert_error(400, "body_broken");
    assert_eq!(gateway.published(), 0);
}

#[tokio::test]
async fn a_head_that_does_not_arrive_in_time_is_closed() {
    let gateway = start(|options| options.limits.head_time = SOON).await;
    for beginning in ["", "POST /oss/avatars HTTP/1.1\r\nhost: x\r\n"] {
        let mut connection = gateway.connect().await;
        connection.write(beginning).await;
        connection.closed().await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let gateway = start(|_| {}).await;
    let long = format!("x-long: {}\r\n", "x".repeat(20_000));
    gateway.send(signed_callback("/oss/avatars", "/oss/avatars", &long)).await.assert_error(431, "head_too_large");
    let many = "x: y\r\n".repeat(101);
    gateway.send(signed_callback("/oss/avatars", "/oss/avatars", &many)).await.assert_error(431, "head_too_large");
    let long_target = format!("/oss/avatars?{}", "x".repeat(70_000));
    gateway.send(callback(&long_target)).await.assert_error(431, "head_too_large");
}

#[tokio::test]
async fn one_callback_more_than_the_limit_is_turned_away_at_once() {
    let gateway = start(|options| options.limits.callbacks_max = 2).await;
    gateway.behave(Behaviour::Hang);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut connection = gateway.connect().await;
        connection.write(callback("/oss/avatars")).await;
        gateway.bus.arrived.notified().await;
        waiting.push(connection);
    }
    gateway.send(callback("/oss/avatars")).await.assert_error(503, "overloaded");
    assert_eq!(gateway.published(), 2);
}

#[tokio::test]
async fn a_bus_that_hangs_does_not_keep_the_uploader_waiting() {
    let gateway = start(|options| options.limits.budget = Duration::from_millis(300)).await;
    gateway.behave(Behaviour::Hang);
    let begin = Instant::now();
    gateway.send(callback("/oss/avatars")).await.assert_error(503, "bus_timeout");
    assert!(begin.elapsed() < Duration::from_secs(3), "took {:?}", begin.elapsed());
    gateway.behave(Behaviour::Store);
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
}

#[tokio::test]
async fn time_that_the_body_took_is_gone_for_the_bus() {
    let gateway = start(|_| {}).await;
    let request = callback("/oss/avatars");
    let mut connection = gateway.connect().await;
    connection.write(&request[..request.len() - 1]).await;
    // The head must have been read before the time runs.
    gateway.wait_for_metric("upcall_callbacks_in_flight 1").await;
    tokio::time::sleep(SOON).await;
    connection.write(&request[request.len() - 1..]).await;
    connection.answer().await.assert_accepted();
    let left = gateway.bus.left.lock().unwrap().unwrap();
    assert!(left <= Limits::default().budget - SOON, "{left:?} were left");
}

#[tokio::test]
async fn one_connection_more_than_the_limit_is_told_so_and_closed() {
    let gateway = start(|options| options.limits.connections_max = 2).await;
    let (mut first, mut second) = (gateway.connect().await, gateway.connect().await);
    for connection in [&mut first, &mut second] {
        connection.write(callback("/oss/avatars")).await;
        connection.answer().await.assert_accepted();
    }
    let mut third = gateway.connect().await;
    third.answer().await.assert_error(503, "too_many_connections");
    third.closed().await;
    drop(first);
    gateway.wait_for_metric("upcall_connections_open 1").await;
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
}
