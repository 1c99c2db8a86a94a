//! What is logged, changed while the process runs.

use upcall_tests::http::{Answer, exchange, get, wait_until};
use upcall_tests::nats::{NatsOptions, NatsServer, is_missing};
use upcall_tests::signer::Signer;

use crate::serve::{Served, configuration};

fn send(served: &Served, method: &str, target: &str, body: &str) -> Answer {
    let length = body.len();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    exchange(served.admin, format!("{head}{body}").as_bytes()).unwrap()
}

#[test]
fn what_is_logged_changes_through_the_admin_port_and_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(&configuration(folder.path(), &Signer::new(), ""));
    let shown = |served: &Served| get(served.admin, "/log").unwrap().json();
    let configured = shown(&served)["configured"].as_str().unwrap().to_owned();
    assert_eq!(shown(&served)["filter"], configured);

    assert_eq!(send(&served, "PUT", "/log", "error").json()["filter"], "error");
    assert_eq!(get(served.callbacks, "/quiet").unwrap().status, 404);
    for (target, filter, told) in [
        ("/log", "debgu", "\"debgu\" is no level"),
        ("/log", "", "is empty"),
        ("/log?for=soon", "info", "takes a duration"),
        ("/log?until=1m", "info", "the query is `for` alone"),
        ("/log", &"x".repeat(5_000), "at most 4096 bytes"),
    ] {
        let refused = send(&served, "PUT", target, filter);
        assert_eq!((refused.status, refused.error_code().as_str()), (400, "log_filter_invalid"));
        assert!(refused.text().contains(&told.replace('"', "\\\"")), "{told}: {}", refused.text());
        assert_eq!(shown(&served)["filter"], "error", "nothing has changed");
    }

    let for_a_while = send(&served, "PUT", "/log?for=1s", "info,upcall_gateway=off").json();
    assert!(for_a_while["until"].is_string(), "{for_a_while}");
    wait_until("it goes back by itself", || shown(&served)["filter"] == configured);
    assert!(shown(&served)["until"].is_null());
    assert_eq!(send(&served, "PUT", "/log", "info,upcall_gateway=trace").status, 200);
    assert_eq!(send(&served, "DELETE", "/log", "").json()["filter"], configured);

    assert_eq!(get(served.callbacks, "/loud").unwrap().status, 404);
    let refusals = |served: &mut Served| {
        let lines = served.lines().iter().filter(|line| line.contains("refused a request")).cloned();
        lines.collect::<Vec<_>>()
    };
    wait_until("the line is there", || !refusals(&mut served).is_empty());
    assert_eq!(refusals(&mut served).len(), 1, "while only errors were logged there was none");
}

#[test]
fn each_answer_has_a_line_where_somebody_wants_it() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let mut served = Served::start(&configuration(folder.path(), &signer, ""));
    let upload = |object: &str, id: &str| {
        let request = signer.upload("/oss/test", "examplebucket", object, id);
        assert_eq!(exchange(served.callbacks, &request).unwrap().status, 200);
    };
    upload("unseen.png", "5CF3E7821AB22D0FDB867001");
    assert_eq!(send(&served, "PUT", "/log?for=10m", "info,upcall_gateway=debug").status, 200);
    upload("seen.png", "5CF3E7821AB22D0FDB867002");
    assert_eq!(get(served.callbacks, "/nowhere").unwrap().status, 404);
    assert_eq!(send(&served, "DELETE", "/log", "").status, 200);
    let lines_with = |served: &mut Served, words: &str| {
        let lines = served.lines().iter().filter(|line| line.contains(words)).cloned();
        lines.collect::<Vec<_>>()
    };
    wait_until("the lines are there", || lines_with(&mut served, "what is logged").len() == 2);
    let answers = lines_with(&mut served, "answered a callback");
    let [taken, refused] = &answers[..] else { panic!("{answers:#?}") };
    for part in
        ["route=\"test\"", "outcome=\"accepted\"", "request_id=\"5CF3E7821AB22D0FDB86704D\"", " event=", "elapsed_us="]
    {
        assert!(taken.contains(part), "{part}: {taken}");
    }
    assert!(refused.contains("_unknown\"") && refused.contains("status=404"), "{refused}");
    assert!(served.terminate().success());
}

#[test]
fn a_line_about_an_event_has_its_id_and_the_request_id_of_its_upload() {
    if is_missing("lines about an event that NATS does not take") {
        return;
    }
    let server =
        NatsServer::start_with(&NatsOptions { config: "max_payload: 32KB".to_owned(), ..NatsOptions::default() });
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let file = folder.path().join("upcall.toml");
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [bus]\njournal = \"./journal\"\nnats = {{ url = {:?}, ack = \"journal\" }}\n{}\
         [[route]]\nname = \"test\"\npath = \"/oss/test\"\n",
        server.url(),
        signer.configuration()
    );
    std::fs::write(&file, text).unwrap();
    let mut served = Served::start(&file);
    let request_id = "5CF3E7821AB22D0FDB867FFF";
    // More than the server takes: x:note is a variable of the uploader's.
    let body = serde_json::json!({
        "bucket": "examplebucket", "object": "a.png", "size": 1024, "reqId": request_id, "note": "x".repeat(40_000)
    });
    let answer =
        exchange(served.callbacks, &signer.request("/oss/test", "application/json", &body.to_string())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut said = None;
    wait_until("the relay says that NATS does not take it", || {
        said = served.lines().iter().find(|line| line.contains("NATS does not take an event")).cloned();
        said.is_some()
    });
    let said = said.unwrap();
    assert!(said.contains(&format!("request_id=\"{request_id}\"")) && said.contains("event="), "{said}");
}

#[test]
fn no_level_logs_a_body_or_a_signature() {
    if is_missing("what is logged of what goes over NATS") {
        return;
    }
    let (server, folder, signer) = (NatsServer::start(), tempfile::tempdir().unwrap(), Signer::new());
    let file = folder.path().join("upcall.toml");
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[log]\nfilter = \"trace,async_nats=trace,hyper=trace\"\n\
         [bus]\njournal = \"./journal\"\nnats = {{ url = {:?}, ack = \"broker\" }}\n{}\
         [[route]]\nname = \"test\"\npath = \"/oss/test\"\n\
         [[consumer]]\nname = \"catalog\"\nstart = \"oldest\"\nsql = {{ url = \"sqlite://catalog.db\", table = \"uploads\" }}\n",
        server.url(),
        signer.configuration()
    );
    std::fs::write(&file, text).unwrap();
    let mut served = Served::start(&file);
    wait_until("it is ready", || get(served.admin, "/ready").unwrap().status == 200);
    let secret = "a-value-that-is-in-the-body-alone";
    let body = serde_json::json!({ "bucket": "examplebucket", "object": "a.png", "size": 1024, "reqId": "5CF3E782", "x:note": secret });
    let request = signer.request("/oss/test", "application/json", &body.to_string());
    let signature = String::from_utf8(request.clone()).unwrap();
    let signature = signature
        .lines()
        .find_map(|line| line.to_ascii_lowercase().starts_with("authorization: ").then(|| line[15..].to_owned()));
    let signature = signature.unwrap();
    assert_eq!(exchange(served.callbacks, &request).unwrap().status, 200);
    wait_until("the consumer has it", || {
        let metrics = get(served.admin, "/metrics").unwrap().text();
        metrics.contains("upcall_consumer_deliveries_total{consumer=\"catalog\",outcome=\"done\"} 1")
    });
    // What was logged before this line was written before it.
    assert_eq!(get(served.callbacks, "/the-end").unwrap().status, 404);
    wait_until("the log has the end", || served.lines().iter().any(|line| line.contains("refused a request")));
    let lines = served.lines();
    for hidden in [secret, signature.as_str()] {
        let told = lines.iter().find(|line| line.contains(hidden));
        assert_eq!(told, None, "{hidden} is in the log");
    }
}
