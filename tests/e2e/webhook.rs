//! Webhooks, from the upload to the receiver.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use upcall_egress::testing::{Act, Request, Server};
use upcall_tests::executable;
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::signer::Signer;

use crate::serve::{Served, configuration};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn consumer(name: &str, server: &Server, keys: &str) -> String {
    format!(
        "[[consumer]]\nname = \"{name}\"\n[consumer.webhook]\nurl = \"http://localhost:{}/hook\"\n\
         allow_networks = [\"127.0.0.0/8\", \"::1\"]\nsecrets = [\"{SECRET}\"]\n{keys}\n",
        server.port
    )
}

fn upload(served: &Served, signer: &Signer, object: &str) {
    let request = signer.upload("/oss/test", "examplebucket", object, &format!("5CF3E782-{object}"));
    let answer = exchange(served.callbacks, &request).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn object_of(request: &Request) -> String {
    let event: Value = serde_json::from_slice(&request.body).unwrap();
    event["data"]["object"].as_str().unwrap().to_owned()
}

fn upcall(file: &Path, arguments: &[&str]) -> String {
    let output = Command::new(executable::path()).args(arguments).arg("-c").arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_every_upload_signed_though_another_one_never_answers() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let quick = Server::answering(200, "", "").await;
    let slow = Server::start(|_, _| Act::SayAndHang(Vec::new())).await;
    let consumers = [consumer("quick", &quick, ""), consumer("slow", &slow, "")].concat();
    let mut served = Served::start(&configuration(folder.path(), &signer, &consumers));
    wait_until("the gateway is ready", || get(served.admin, "/ready").unwrap().status == 200);
    let objects: Vec<String> = (0..40).map(|number| format!("photo-{number}.jpg")).collect();
    for object in &objects {
        upload(&served, &signer, object);
    }
    let requests = quick.requested(objects.len()).await;
    let mut arrived: Vec<String> = requests.iter().map(object_of).collect();
    arrived.sort_by_key(|object| objects.iter().position(|other| other == object));
    assert_eq!(arrived, objects);
    let waiting = slow.requested(1).await;
    assert!(waiting.len() <= 16, "{} requests at once", waiting.len());
    for request in requests {
        assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
        assert!(request.header("webhook-signature").unwrap().starts_with("v1,"), "{}", request.head);
    }
    assert!(served.terminate().success());
    assert!(quick.requests().len() == objects.len(), "each has arrived once");
}

#[test]
fn a_gateway_whose_consumer_cannot_reach_its_target_stays_ready_and_says_so() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let gone = "[[consumer]]\nname = \"partner\"\n[consumer.webhook]\nurl = \"http://localhost:1/hook\"\n\
                allow_networks = [\"127.0.0.0/8\", \"::1\"]\n";
    let served = Served::start(&configuration(folder.path(), &signer, &format!("{gone}secrets = [\"{SECRET}\"]\n")));
    wait_until("the gateway is ready", || get(served.admin, "/ready").unwrap().status == 200);
    upload(&served, &signer, "a");
    let component = |name: &str| {
        let ready = get(served.admin, "/ready").unwrap();
        assert_eq!(ready.status, 200, "{}", ready.text());
        let ready = ready.json();
        ready["components"].as_array().unwrap().iter().find(|component| component["name"] == name).cloned()
    };
    let is_told = || {
        let reason = component("consumer partner").unwrap()["reason"].as_str().unwrap_or_default().to_owned();
        reason.starts_with("its target is out of order, and events wait for it: ")
    };
    wait_until("it is told", is_told);
    wait_until("the other one is well", || component("consumer catalog").unwrap()["reason"].is_null());
    let metrics = get(served.admin, "/metrics").unwrap();
    assert!(metrics.text().contains("upcall_consumer_ready{consumer=\"partner\"} 0"), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_its_receiver_always_fails_on_is_a_dead_letter_and_arrives_once_that_is_mended() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new());
    let mended = folder.path().join("mended");
    let flag = mended.clone();
    let server = Server::start(move |request, _| match object_of(request).as_str() {
        "poison" if !flag.exists() => Act::answer(500, "", "no album\r\nfor it"),
        _ => Act::answer(200, "", ""),
    })
    .await;
    let file = configuration(folder.path(), &signer, &consumer("partner", &server, "retry = [\"10ms\", \"10ms\"]"));
    let served = Served::start(&file);
    wait_until("the gateway is ready", || get(served.admin, "/ready").unwrap().status == 200);
    for object in ["a", "poison", "b", "c"] {
        upload(&served, &signer, object);
    }
    wait_until("a dead letter", || !upcall(&file, &["dead", "list", "--json"]).is_empty());
    let letter: Value = serde_json::from_str(&upcall(&file, &["dead", "list", "--json"])).unwrap();
    assert_eq!((&letter["consumer"], &letter["attempts"]), (&"partner".into(), &3.into()), "{letter}");
    let reason = "the endpoint answered with status 500 Internal Server Error: no album for it";
    assert_eq!(letter["reason"], reason);
    let arrived = |object: &str| server.requests().iter().filter(|request| object_of(request) == object).count();
    wait_until("the others", || ["a", "b", "c"].iter().all(|object| arrived(object) == 1));
    assert_eq!(arrived("poison"), 3);
    std::fs::write(mended, "").unwrap();
    upcall(&file, &["dead", "retry", &letter["number"].to_string()]);
    wait_until("it arrives", || arrived("poison") == 4);
    wait_until("it is done", || upcall(&file, &["dead", "list", "--json"]).is_empty());
}
