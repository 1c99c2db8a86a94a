//! What operators do with a bus, on the journal and on NATS: dead letters, replay, tail, provision.

mod poison;
mod quarantine;
mod site;
mod tail;
mod unreadable;

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use upcall_tests::executable::{PATIENCE, Running};
use upcall_tests::http::{get, wait_until};
use upcall_tests::nats;

use crate::serve::Served;
use site::{MANY, Site, text};

#[test]
fn a_dead_letter_is_retried_when_its_cause_is_mended_on_the_journal() {
    a_dead_letter_is_retried_when_its_cause_is_mended(&Site::on_the_journal());
}

#[test]
fn a_dead_letter_is_retried_when_its_cause_is_mended_on_nats() {
    if !nats::is_missing("dead letters on NATS") {
        a_dead_letter_is_retried_when_its_cause_is_mended(&Site::on_nats());
    }
}

fn a_dead_letter_is_retried_when_its_cause_is_mended(site: &Site) {
    let mut served = site.serve();
    site.refuse("bad");
    for object in ["bad-1", "good-2", "bad-3"] {
        site.upload(&served, object);
    }
    let letters = site.dead_letters(2);
    assert!(site.objects() == ["good-0", "good-2"].map(str::to_owned).into());
    for (letter, object) in letters.iter().zip(["bad-1", "bad-3"]) {
        assert_eq!((&letter["consumer"], &letter["attempts"]), (&"catalog".into(), &2.into()), "{letter}");
        assert_eq!(letter["event"]["data"]["object"], object);
        assert!(letter["reason"].as_str().unwrap().contains("no such thing"), "{letter}");
    }
    let numbers: Vec<String> = letters.iter().map(|letter| letter["number"].to_string()).collect();

    let waiting = |count: u32| {
        let shown = format!("upcall_consumer_dead_letters{{consumer=\"catalog\"}} {count}");
        wait_until("the metric counts them", || get(served.admin, "/metrics").unwrap().text().contains(&shown));
    };
    waiting(2);

    let table = text(&site.upcall(&["dead", "list", "--older-than", "0s", "--newer-than", "1h"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("NUMBER"), "{table}");
    assert!(lines[1].starts_with(&numbers[0]) && lines[1].contains("examplebucket/bad-1"), "{table}");
    assert_eq!(text(&site.upcall(&["dead", "list", "--reason", "something else"])), "");
    let of_nobody = site.upcall(&["dead", "list", "--consumer", "other"]);
    assert_eq!(text(&of_nobody), "");
    let said = String::from_utf8_lossy(&of_nobody.stderr);
    assert!(said.contains("no consumer other; there are: catalog"), "{said}");
    assert_eq!(text(&site.upcall(&["dead", "list", "--older-than", "1h"])), "");
    let event = letters[1]["event"]["id"].as_str().unwrap();
    for which in [&numbers[1], event] {
        let whole = text(&site.upcall(&["dead", "show", "--id", which]));
        assert!(whole.contains(&format!("dead letter {} of consumer catalog", numbers[1])), "{whole}");
        assert!(whole.contains("\"object\": \"bad-3\"") && !whole.contains("bad-1"), "{whole}");
    }

    refused(&site.upcall(&["dead", "retry"]), "say which");
    refused(&site.upcall(&["dead", "retry", "--consumer", "catalog"]), "add --yes");
    refused(&site.upcall(&["dead", "drop", "--all"]), "add --yes");
    refused(&site.upcall(&["dead", "retry", "987654"]), "no dead letter 987654");
    assert_eq!(site.dead_letters(2), letters, "nothing was done yet");

    // Dies again where nothing has been mended.
    assert!(text(&site.upcall(&["dead", "retry", &numbers[0]])).contains("1 dead letter given again"));
    let again = site.dead_letters(2);
    assert!(again.iter().all(|letter| letter["number"] != letters[0]["number"]), "{again:?}");
    site.sql("DROP TRIGGER refuse");
    let retried = text(&site.upcall(&["dead", "retry", "--reason", "NO SUCH", "--newer-than", "1h", "--yes"]));
    assert!(retried.contains("2 dead letters given again"), "{retried}");
    wait_until("the rows are there", || site.objects().len() == 4);
    assert_eq!(text(&site.upcall(&["dead", "list"])), "");
    assert_eq!(site.effects(), 4, "each upload has had its effect once");
    waiting(0);
    refused(&site.upcall(&["dead", "retry", &numbers[1]]), "no dead letter");

    site.refuse("worse");
    site.upload(&served, "worse-4");
    let number = site.dead_letters(1)[0]["number"].to_string();
    assert!(text(&site.upcall(&["dead", "drop", &number])).contains("1 dead letter dropped"));
    site.dead_letters(0);
    assert!(served.terminate().success());
}

#[test]
fn a_replay_that_would_repeat_effects_asks_first() {
    let site = Site::on_the_journal();
    assert!(site.serve().terminate().success());
    let replay = ["replay", "--consumer", "catalog", "--since", "1h"];
    let text_of_file = std::fs::read_to_string(&site.file).unwrap();
    for (sink, told) in [
        ("webhook = { url = { env = \"UPCALL_TEST_UNSET\" } }", "under the same webhook-id"),
        ("notify = { slack = { url = { env = \"UPCALL_TEST_UNSET\" } } }", "people are told again"),
        ("command = { program = \"./nowhere\" }", "its program runs again"),
    ] {
        let sql = "sql = { url = \"sqlite://catalog.db\", table = \"uploads\" }";
        std::fs::write(&site.file, text_of_file.replace(sql, sink)).unwrap();
        refused(&site.upcall(&replay), told);
        refused(&site.upcall(&replay), "add --yes");
        let dry = text(&site.upcall(&[&replay[..], &["--dry-run"]].concat()));
        assert!(dry.contains("1 event would be given to catalog"), "{dry}");
        let given = text(&site.upcall(&[&replay[..], &["--yes", "--name", sink]].concat()));
        assert!(given.contains("1 event was given") && given.contains("can't be taken back"), "{given}");
    }
}

#[test]
fn a_replay_fills_a_table_anew_on_the_journal() {
    a_replay_fills_a_table_anew(&Site::on_the_journal());
}

#[test]
fn a_replay_fills_a_table_anew_on_nats() {
    if !nats::is_missing("a replay on NATS") {
        a_replay_fills_a_table_anew(&Site::on_nats());
    }
}

fn a_replay_fills_a_table_anew(site: &Site) {
    let mut served = site.serve();
    let mut moments = Vec::new();
    for part in ["early", "middle", "late"] {
        // The journal's times have milliseconds.
        std::thread::sleep(Duration::from_millis(2));
        moments.push(Timestamp::now().to_string());
        for number in 0..5 {
            site.upload(&served, &format!("{part}-{number}"));
        }
    }
    wait_until("the rows are there", || site.objects().len() == 16);
    refused(&site.upcall(&["replay", "--consumer", "katalog", "--since", "1h"]), "there are: catalog");
    refused(&site.upcall(&["replay", "--consumer", "catalog", "--since", "1m", "--until", "2m"]), "is not before");
    let long = "x".repeat(600);
    let named = site.upcall(&["replay", "--consumer", "catalog", "--since", "1h", "--name", &long]);
    let said = String::from_utf8_lossy(&named.stderr).into_owned();
    assert!(named.status.code() == Some(2) && said.contains("a name has at most 512"), "{said}");
    refused(
        &site.upcall(&["replay", "--consumer", "catalog", "--since", "1h", "--object", &long]),
        "give one with --name",
    );
    let replay = |arguments: &[&str]| {
        let all: Vec<&str> = ["replay", "--consumer", "catalog"].iter().chain(arguments).copied().collect();
        text(&site.upcall(&all))
    };
    let middle = ["--since", &moments[1], "--until", &moments[2]];
    let dry = replay(&[&middle[..], &["--dry-run"]].concat());
    assert!(dry.contains("5 events would be given to catalog"), "{dry}");

    // Whatever was given before would fill the table after it was emptied.
    let settled = |count| wait_until("the deliveries are settled", || deliveries(&served) >= count);
    // What is there already stays as it is.
    assert!(replay(&[&middle[..], &["--name", "first"]].concat()).contains("5 events were given"));
    settled(16 + 5);
    site.forget();
    let given = replay(&middle);
    assert!(given.contains("5 events were given to catalog"), "{given}");
    let wanted: BTreeSet<String> = (0..5).map(|number| format!("middle-{number}")).collect();
    wait_until("the rows are there again", || site.objects() == wanted);
    settled(16 + 5 + 5);

    // The same again gives nothing, another name gives it again, and what is given in between comes before that.
    site.forget();
    let again = replay(&middle);
    assert!(again.starts_with("0 events were given to catalog: the 5 in this range had been given"), "{again}");
    let one = replay(&["--since", "1h", "--object", "**-3", "--bucket", "examplebucket", "--name", "other"]);
    assert!(one.contains("3 events were given"), "{one}");
    let wanted: BTreeSet<String> = ["early", "middle", "late"].map(|part| format!("{part}-3")).into();
    wait_until("the rows are there again", || site.objects() == wanted);
    for nothing in [["--bucket", "otherbucket"], ["--filter", "upcall.uploads.otherbucket.>"], ["--until", "1h"]] {
        let given = replay(&[&["--since", "2h"][..], &nothing].concat());
        assert!(given.starts_with("0 events were given"), "{given}");
    }
    assert_eq!(site.effects(), 3, "each event has had its effect once");
    assert!(served.terminate().success());
}

#[test]
fn a_replay_that_is_killed_goes_on_where_it_was_on_the_journal() {
    a_replay_that_is_killed_goes_on_where_it_was(&Site::on_the_journal());
}

#[test]
fn a_replay_that_is_killed_goes_on_where_it_was_on_nats() {
    if !nats::is_missing("a replay that is killed on NATS") {
        a_replay_that_is_killed_goes_on_where_it_was(&Site::on_nats());
    }
}

fn a_replay_that_is_killed_goes_on_where_it_was(site: &Site) {
    site.publish_many();
    let mut served = site.serve();
    let count = || site.number("SELECT count(*) FROM uploads");
    wait_until("the rows are there", || count() == MANY + 1);
    site.forget();
    let file = site.file.to_str().unwrap();
    let command = ["replay", "-c", file, "--consumer", "catalog", "--since", "1h", "--object", "many-*"];
    let mut replay = Running::start(&command);
    wait_until("some rows are there again", || count() > 0);
    replay.kill();
    let said = replay.rest().join("\n");
    assert!(!said.contains("events were given"), "it was too fast to be killed: {said}");
    let resumed = text(&site.upcall(&["replay", "--consumer", "catalog", "--since", "1h", "--object", "many-*"]));
    // It counts apart what the other one had given.
    let (given, before) = resumed.split_once(" events were given to catalog; ").unwrap_or_else(|| panic!("{resumed}"));
    let before = before.split_once(" more in this range had been given").unwrap_or_else(|| panic!("{resumed}")).0;
    let [given, before]: [usize; 2] = [given, before].map(|count| count.parse().unwrap());
    assert!(given > 0 && before > 0 && given + before == MANY, "{resumed}");
    wait_until("the rows are there again", || count() == MANY);
    // Each came twice: at first, and by the replay.
    wait_until("the deliveries are settled", || deliveries(&served) > 2 * MANY);
    assert_eq!(deliveries(&served), 2 * MANY + 1);
    assert!(served.terminate().success());
}

fn deliveries(served: &Served) -> usize {
    let metrics = get(served.admin, "/metrics").unwrap().text();
    let done = |line: &&str| line.starts_with("upcall_consumer_deliveries_total{") && line.contains("outcome=\"done\"");
    let line = metrics.lines().find(done).unwrap_or_else(|| panic!("{metrics}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn provisioning_makes_what_is_missing_and_tells_what_differs() {
    if nats::is_missing("provisioning") {
        return;
    }
    let site = Site::on_nats();
    let check = || site.upcall(&["provision", "--check"]);
    let missing = check();
    assert_eq!(missing.status.code(), Some(1));
    let said = String::from_utf8_lossy(&missing.stdout).into_owned();
    assert!(said.contains("missing: stream UPCALL is not there") && said.contains("catalog"), "{said}");
    assert_eq!(check().stdout, missing.stdout, "checking changes nothing");
    let made = text(&site.upcall(&["provision"]));
    assert!(made.contains("made stream UPCALL") && made.contains("Everything is as configured"), "{made}");
    assert_eq!(check().status.code(), Some(0));
    assert!(text(&site.upcall(&["provision"])).starts_with("Everything"), "there is nothing left to do");

    let other = std::fs::read_to_string(&site.file)
        .unwrap()
        .replace("[gateway]", "[bus.nats.streams]\nage = \"1d\"\n[gateway]");
    std::fs::write(&site.file, other).unwrap();
    let differs = check();
    assert_eq!(differs.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&differs.stdout).contains("differs: stream UPCALL keeps events for"));

    site.nats.as_ref().unwrap().kill();
    let began = Instant::now();
    let gone = site.upcall(&["provision", "--check", "--wait", "500ms"]);
    assert_eq!(gone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no NATS server has answered within 500ms"));
    assert!(began.elapsed() < PATIENCE / 2, "after {:?}", began.elapsed());
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(why), "{}: {said}", output.status);
}
