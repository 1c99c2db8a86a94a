//! An instance that was frozen, and whose connection to NATS has died meanwhile.

use std::time::Instant;

use upcall_tests::http::wait_until;
use upcall_tests::nats::{NatsServer, is_missing};
use upcall_tests::proxy::{Link, Proxy};

use super::{Instance, PATIENCE_OF_OSS, impatient};

/// Waits until the server has given up every client.
fn until_given_up(server: &NatsServer) {
    wait_until("the server gives the frozen client up", || {
        server.monitor("/connz").is_some_and(|connections| connections["num_connections"] == 0)
    });
}

fn thawed_answers(mut instance: Instance, objects: [&str; 2], meanwhile: impl FnOnce()) {
    let answer = instance.pass_on(&instance.callback(objects[0], "5CF3E7821AB22D0FDB86704D"), "/http-invoke");
    assert_eq!(answer.status, 200, "{}", answer.text());
    instance.signal("-STOP");
    meanwhile();
    instance.signal("-CONT");
    let begin = Instant::now();
    let answer = instance.pass_on(&instance.callback(objects[1], "5CF3E7821AB22D0FDB86704E"), "/http-invoke");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(begin.elapsed() < PATIENCE_OF_OSS, "{:?}", begin.elapsed());
    let events = instance.events();
    let known: Vec<_> = events.iter().map(|event| event["data"]["object"].as_str().unwrap()).collect();
    assert_eq!(known, objects, "each once, in their order");
}

#[test]
fn a_connection_that_the_server_closed_while_the_instance_was_frozen_is_made_anew() {
    if is_missing("an instance frozen longer than NATS waits for it") {
        return;
    }
    let server = impatient();
    let instance = Instance::start(server.address(), "", "");
    thawed_answers(instance, ["a.png", "b.png"], || until_given_up(&server));
}

#[test]
fn a_connection_that_died_without_a_word_while_the_instance_was_frozen_is_made_anew() {
    if is_missing("an instance whose connection is half open") {
        return;
    }
    let server = impatient();
    let proxy = Proxy::start(server.address());
    let instance = Instance::start(proxy.address(), "", "");
    thawed_answers(instance, ["a.png", "b.png"], || {
        proxy.set(Link::HalfOpen);
        until_given_up(&server);
        proxy.set(Link::Whole);
    });
}
