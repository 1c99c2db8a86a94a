//! What Function Compute asks of an instance, and what it passes on.

use std::process::Command;
use std::time::{Duration, Instant};

use upcall_tests::executable;
use upcall_tests::http::{exchange, wait_until};
use upcall_tests::nats::{NatsServer, is_missing};
use upcall_tests::proxy::{Link, Proxy};

use super::{INVOCATION, Instance, PATIENCE_OF_OSS, SECRET};

/// How far away a server is: much longer than a callback takes that asks for nothing.
const FAR: Duration = Duration::from_millis(150);

#[test]
fn a_callback_passed_on_by_function_compute_is_an_event_before_it_is_answered() {
    if is_missing("a function that takes callbacks") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), "", "");
    let answer = instance.pass_on(&instance.callback("a.png", "5CF3E7821AB22D0FDB86704D"), "/http-invoke");
    instance.signal("-STOP");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let events = instance.events();
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["data"]["object"], &events[0]["data"]["origin"]), (&"a.png".into(), &"callback".into()));
    instance.signal("-CONT");
    // Nothing ends by what an outsider might have forged.
    for path in ["/pre-freeze", "/pre-stop", "/initialize"] {
        assert_eq!(instance.control(path).status, 200, "{path}");
    }
    let answer = instance.pass_on(&instance.callback("b.png", "5CF3E7821AB22D0FDB86704E"), "/http-invoke");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(instance.process.terminate().success());
}

#[test]
fn what_is_left_to_do_for_a_rejected_callback_is_done_before_the_instance_is_frozen() {
    if is_missing("a function that rejects callbacks") {
        return;
    }
    let server = NatsServer::start();
    let proxy = Proxy::start(server.address());
    let mut instance = Instance::start(proxy.address(), "", "");
    let mut request = instance.callback("a.png", "5CF3E7821AB22D0FDB86704D");
    let last = request.len() - 1;
    request[last] = b'E';
    proxy.set(Link::Latency(FAR));
    let begin = Instant::now();
    let answer = instance.pass_on(&request, "/http-invoke");
    instance.signal("-STOP");
    assert!(begin.elapsed() >= FAR, "the answer waits for the server's: {:?}", begin.elapsed());
    proxy.set(Link::Whole);
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "signature_mismatch"));
    let quarantined = instance.quarantined();
    assert_eq!(quarantined.len(), 1, "it is there when the instance is frozen");
    assert!(!quarantined[0].to_string().contains(SECRET) && !quarantined[0].to_string().contains("TheTemporary"));
    // What was written before the process was stopped comes through the pipe all the same.
    wait_until("the line is in the log", || {
        instance.process.rest().iter().any(|line| line.contains("signature_mismatch"))
    });
    let log = instance.process.rest().join("\n");
    assert!(log.contains(INVOCATION), "{log}");
    assert!(!log.contains("TheTemporary"), "{log}");
    instance.signal("-CONT");
}

#[test]
fn a_bus_that_hangs_has_callbacks_answered_before_oss_gives_up() {
    if is_missing("a function whose bus hangs") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), "", "");
    let good = instance.callback("a.png", "5CF3E7821AB22D0FDB86704D");
    assert_eq!(instance.pass_on(&good, "/http-invoke").status, 200);
    server.stop();
    for object in ["b.png", "c.png"] {
        let callback = instance.callback(object, "5CF3E7821AB22D0FDB86704E");
        let begin = Instant::now();
        let answer = instance.pass_on(&callback, "/http-invoke");
        assert_eq!(answer.status, 503, "{}", answer.text());
        // The quarantine hangs, too.
        assert!(begin.elapsed() < PATIENCE_OF_OSS, "{:?}", begin.elapsed());
    }
}

#[test]
fn a_function_for_callbacks_takes_no_events_and_nothing_that_does_not_say_what_it_is() {
    if is_missing("a function that is invoked with an event") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), "", "");
    let event = serde_json::json!({ "events": [] });
    let answer = instance.invoke(&event);
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "invocation_refused"));
    let callback = instance.callback("a.png", "5CF3E7821AB22D0FDB86704D");
    let answer = exchange(instance.address, &callback).unwrap();
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "invocation_refused"));
    // As if a client's own header had come through beside Function Compute's.
    let twice = super::with_headers(&super::with_headers(&callback, "/invoke"), "/http-invoke");
    let answer = exchange(instance.address, &twice).unwrap();
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "invocation_refused"));
    assert!(instance.events().is_empty());
}

#[test]
fn what_does_not_work_in_an_instance_is_a_mistake_in_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let file = folder.path().join("upcall.toml");
        std::fs::write(&file, text).unwrap();
        let output = Command::new(executable::path()).args(["check", "-c"]).arg(&file).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let route = "[[route]]\nname = \"a\"\npath = \"/a\"\n";
    let nats = "[bus.nats]\nurl = \"nats://nats:4222\"\n";
    assert_eq!(check(&format!("[function_compute]\n{nats}{route}")), (true, String::new()));
    let (is_valid, said) = check(&format!(
        "[function_compute]\n[gateway]\nlisten = \"0.0.0.0:80\"\n[bus]\njournal = \"j\"\n{nats}{route}notifications = true\nbuckets = [\"b\"]\n\
         [[consumer]]\nname = \"c\"\nsql = {{ url = \"sqlite://c.db\" }}\n"
    ));
    assert!(!is_valid);
    for mistake in ["4 mistakes", "gateway.listen: ", "bus.journal: ", "consumer[0]: ", "route[0].notifications: "] {
        assert!(said.contains(mistake), "{mistake} in {said}");
    }
    let (is_valid, said) = check(&format!("[function_compute]\n{route}"));
    assert!(!is_valid && said.contains("bus.nats: is missing"), "{said}");
    let (is_valid, said) = check(&format!("{route}notifications = true\n"));
    assert!(!is_valid && said.contains("route[0].buckets: ") && said.contains("names the buckets"), "{said}");
}
