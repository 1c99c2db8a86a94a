//! Rejected callbacks, on the journal and on NATS.

use serde_json::Value;
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::nats;
use upcall_tests::signer::FORM;

use super::refused;
use super::site::{Site, text};

#[test]
fn a_rejected_callback_is_in_quarantine_until_it_is_dropped_on_the_journal() {
    a_rejected_callback_is_in_quarantine_until_it_is_dropped(&Site::on_the_journal());
}

#[test]
fn a_rejected_callback_is_in_quarantine_until_it_is_dropped_on_nats() {
    if !nats::is_missing("the quarantine on NATS") {
        a_rejected_callback_is_in_quarantine_until_it_is_dropped(&Site::on_nats());
    }
}

fn a_rejected_callback_is_in_quarantine_until_it_is_dropped(site: &Site) {
    let mut served = site.serve();
    let genuine = site.signer.request("/oss/test", FORM, "bucket=examplebucket&object=a.png&size=7");
    let forged = String::from_utf8(genuine).unwrap().replace("size=7", "size=8");
    assert_eq!(exchange(served.callbacks, forged.as_bytes()).unwrap().error_code(), "signature_mismatch");
    let stray = b"GET /admin?token=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(served.callbacks, stray).unwrap().error_code(), "page_unknown");

    let mut listed: Vec<Value> = Vec::new();
    wait_until("both are in quarantine", || {
        let list = text(&site.upcall(&["quarantine", "list", "--json"]));
        listed = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        listed.len() == 2
    });
    let (forgery, stray) = (&listed[0], &listed[1]);
    assert_eq!((&forgery["code"], &forgery["route"]), (&"signature_mismatch".into(), &"test".into()), "{forgery}");
    assert_eq!(forgery["body"], "bucket=examplebucket&object=a.png&size=8");
    assert_eq!((&stray["target"], &stray["route"]), (&"/admin?token=1".into(), &Value::Null), "{stray}");
    let metrics = get(served.admin, "/metrics").unwrap().text();
    assert!(metrics.contains("upcall_quarantine_callbacks_total{outcome=\"kept\"} 2"), "{metrics}");
    let numbers = [forgery, stray].map(|kept| kept["number"].to_string());

    let table = text(&site.upcall(&["quarantine", "list", "--route", "test", "--newer-than", "1h"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("NUMBER") && lines[1].starts_with(&numbers[0]), "{table}");
    assert_eq!(text(&site.upcall(&["quarantine", "list", "--code", "body_too_large"])), "");
    let whole = text(&site.upcall(&["quarantine", "show", &numbers[0]]));
    assert!(whole.contains("object=a.png") && whole.contains("x-oss-pub-key-url: "), "{whole}");

    // It is there without the process that kept it, and after its end.
    assert!(served.terminate().success());
    refused(&site.upcall(&["quarantine", "show"]), "say which");
    refused(&site.upcall(&["quarantine", "drop", "--all"]), "add --yes");
    refused(&site.upcall(&["quarantine", "show", "987654"]), "no rejected callback 987654");
    assert!(text(&site.upcall(&["quarantine", "drop", &numbers[0]])).contains("1 rejected callback dropped"));
    let left = text(&site.upcall(&["quarantine", "list", "--json"]));
    assert!(left.lines().count() == 1 && left.contains("page_unknown"), "{left}");
    assert!(text(&site.upcall(&["quarantine", "drop", "--code", "page_unknown", "--yes"])).starts_with('1'));
    assert_eq!(text(&site.upcall(&["quarantine", "list"])), "");
}
