//! One event that always fails, among many, on the journal and on NATS.

use upcall_tests::http::{get, wait_until};
use upcall_tests::nats;

use super::site::{MANY, Site, text};
use crate::serve::Served;

/// Its name is the beginning of no other's.
const POISON: &str = "many-12345";

#[test]
fn a_poisonous_event_among_many_dies_alone_and_arrives_once_it_is_mended_on_the_journal() {
    a_poisonous_event_among_many_dies_alone_and_arrives_once_it_is_mended(&Site::on_the_journal());
}

#[test]
fn a_poisonous_event_among_many_dies_alone_and_arrives_once_it_is_mended_on_nats() {
    if !nats::is_missing("a poisonous event on NATS") {
        a_poisonous_event_among_many_dies_alone_and_arrives_once_it_is_mended(&Site::on_nats());
    }
}

fn a_poisonous_event_among_many_dies_alone_and_arrives_once_it_is_mended(site: &Site) {
    assert!(site.serve().terminate().success());
    site.refuse(POISON);
    site.publish_many();
    let mut served = Served::start(&site.file);
    wait_until("all others are there", || site.number("SELECT count(*) FROM uploads") == MANY);
    let letters = site.dead_letters(1);
    assert_eq!((&letters[0]["event"]["data"]["object"], &letters[0]["attempts"]), (&POISON.into(), &2.into()));
    assert!(letters[0]["reason"].as_str().unwrap().contains("we want no such thing"), "{}", letters[0]);

    // None of its neighbours was tried twice, and the consumer never paused: nobody was held up.
    let others = MANY - 1;
    let counted = [("done", others), ("retried", 1), ("dead", 1), ("handed_back", 0)];
    let counted = counted.map(|(outcome, count)| {
        format!("upcall_consumer_deliveries_total{{consumer=\"catalog\",outcome=\"{outcome}\"}} {count}\n")
    });
    wait_until("everything is counted", || {
        let metrics = get(served.admin, "/metrics").unwrap().text();
        counted.iter().all(|line| metrics.contains(line.as_str()))
    });

    site.sql("DROP TRIGGER refuse");
    let retried = text(&site.upcall(&["dead", "retry", &letters[0]["number"].to_string()]));
    assert!(retried.contains("1 dead letter given again"), "{retried}");
    wait_until("it is there, too", || site.objects().contains(POISON));
    assert_eq!(site.effects(), MANY + 1, "each upload has had its effect once");
    site.dead_letters(0);
    assert!(served.terminate().success());
}
