//! `NatsBus::examine` on real servers, each made wrong in one way.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, Source, StorageType, SubjectTransform};
use async_nats::jetstream::{AckKind, Context};
use futures_util::StreamExt;
use jiff::{Timestamp, ToSpan};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use upcall_bus::conformance::message;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Publisher, Start};
use upcall_bus_nats::examine::{Finding, Questions, Severity, kinds};
use upcall_bus_nats::{NatsBus, Options};
use upcall_tests::executable::PATIENCE;
use upcall_tests::nats::{self, NatsCluster, NatsOptions, NatsServer};

use crate::harness;

const POLL: Duration = Duration::from_millis(100);

async fn connect(options: Options) -> NatsBus {
    harness::connect(options).await.0
}

async fn provisioned(server: &NatsServer) -> (NatsBus, Context) {
    let (bus, context) = harness::connect(Options::new(server.url())).await;
    bus.provision(&[]).await.unwrap();
    (bus, context)
}

/// The findings beside those that every default server alone has.
async fn examine(bus: &NatsBus, questions: &Questions) -> Vec<Finding> {
    let mut found = bus.examine(questions).await.unwrap();
    assert!(found.is_sorted_by_key(|finding| std::cmp::Reverse(finding.kind.severity)), "worst first: {found:#?}");
    found.retain(|finding| !["one-server", "sync-interval-unseen"].contains(&finding.kind.name));
    found
}

#[track_caller]
fn has(found: &[Finding], name: &str, severity: Severity) {
    let finding = found.iter().find(|finding| finding.kind.name == name);
    let finding = finding.unwrap_or_else(|| panic!("no {name} among {found:#?}"));
    assert_eq!(finding.kind.severity, severity, "{finding:#?}");
    assert!(!finding.what.is_empty() && !finding.kind.why.is_empty() && !finding.kind.remedy.is_empty());
}

/// Waits until there is such a finding.
async fn wait_for(bus: &NatsBus, questions: &Questions, name: &str) -> Vec<Finding> {
    let patience = Deadline::after(PATIENCE);
    loop {
        let found = examine(bus, questions).await;
        if found.iter().any(|finding| finding.kind.name == name) {
            return found;
        }
        assert!(!patience.has_passed(), "no {name} among {found:#?}");
        tokio::time::sleep(POLL).await;
    }
}

async fn publish(context: &Context, subject: &str, count: usize, bytes: usize) {
    for _ in 0..count {
        let payload = vec![b'x'; bytes].into();
        context.publish(subject.to_owned(), payload).await.unwrap().await.unwrap();
    }
}

fn spec(name: &str) -> ConsumerSpec {
    ConsumerSpec { name: name.parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest }
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let mut names: Vec<_> = kinds::ALL.iter().map(|kind| kind.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), kinds::ALL.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_well_kept_server_has_nothing_worse_than_a_note() {
    if nats::is_missing("the examination of a server") {
        return;
    }
    let server = NatsServer::start_with(&NatsOptions {
        jetstream: "sync_interval: always".to_owned(),
        ..NatsOptions::default()
    });
    let (bus, _) = provisioned(&server).await;
    let mut reader = bus.subscribe(&spec("catalog")).await.unwrap();
    for number in 1..=10 {
        bus.publish(message(number), Deadline::after(PATIENCE)).await.unwrap();
    }
    let monitor = Some(format!("{}/", server.monitor_url()));
    let reading = tokio::spawn(async move {
        loop {
            for delivery in reader.next(10).await.unwrap() {
                delivery.ack().await.unwrap();
            }
        }
    });
    let questions = Questions { consumers: vec![spec("catalog")], monitor, ..Questions::default() };
    let patience = Deadline::after(PATIENCE);
    loop {
        let found = bus.examine(&questions).await.unwrap();
        let worse: Vec<_> = found.iter().filter(|finding| finding.kind.severity > Severity::Note).collect();
        assert!(worse.is_empty(), "{worse:#?}");
        // Only while some are unsettled are there more.
        if found.iter().all(|finding| finding.kind.name == "one-server") {
            break;
        }
        assert!(!patience.has_passed(), "{found:#?}");
    }
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_with_a_journal_have_no_finding_until_one_is_lost() {
    if nats::is_missing("the examination of a cluster") {
        return;
    }
    let cluster = NatsCluster::start(3);
    let mut options = Options::new("");
    options.urls = cluster.urls();
    options.streams.replicas = 3;
    let bus = connect(options.clone()).await;
    let patience = Deadline::after(PATIENCE);
    while bus.provision(&[]).await.is_err() {
        assert!(!patience.has_passed(), "the streams can't be made");
        tokio::time::sleep(POLL).await;
    }
    let questions = Questions { journal_hold: Some(Duration::from_secs(300)), ..Questions::default() };
    // A replica that was just made is behind for a moment.
    loop {
        let found = bus.examine(&questions).await.unwrap_or_default();
        if found.is_empty() {
            break;
        }
        assert!(!patience.has_passed(), "{found:#?}");
        tokio::time::sleep(POLL).await;
    }

    let context = async_nats::jetstream::new(bus.client().clone());
    let mut config = context.get_stream("UPCALL").await.unwrap().cached_info().config.clone();
    config.num_replicas = 1;
    context.update_stream(config.clone()).await.unwrap();
    has(&wait_for(&bus, &questions, "stream-one-replica").await, "stream-one-replica", Severity::Harm);
    config.num_replicas = 3;
    context.update_stream(config).await.unwrap();

    let connected = bus.client().server_info().server_name;
    let other = cluster.servers().iter().find(|server| server.name() != connected).unwrap();
    other.kill();
    let patience = Deadline::after(PATIENCE);
    loop {
        // While leaders are chosen, the server may not answer.
        let found = bus.examine(&questions).await.unwrap_or_default();
        if found.iter().any(|finding| finding.kind.name == "stream-replica-lost") {
            break has(&found, "stream-replica-lost", Severity::Risk);
        }
        assert!(!patience.has_passed(), "{found:#?}");
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_configured_wrong_is_found() {
    if nats::is_missing("the examination of streams") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = provisioned(&server).await;
    let good = context.get_stream("UPCALL").await.unwrap().cached_info().config.clone();
    assert_eq!(examine(&bus, &Questions::default()).await, []);
    let subjects = |filter: &str| vec![filter.to_owned()];
    let cases = [
        ("stream-in-memory", Severity::Harm, Config { storage: StorageType::Memory, ..good.clone() }),
        (
            "stream-discards-old",
            Severity::Risk,
            Config { discard: DiscardPolicy::Old, max_messages: 1000, ..good.clone() },
        ),
        (
            "stream-subject-limit",
            Severity::Harm,
            Config { max_messages_per_subject: 1, discard: DiscardPolicy::New, ..good.clone() },
        ),
        (
            "stream-transforms",
            Severity::Harm,
            Config {
                subject_transform: Some(SubjectTransform {
                    source: "upcall.uploads.>".to_owned(),
                    destination: "elsewhere.>".to_owned(),
                }),
                ..good.clone()
            },
        ),
        ("stream-retention", Severity::Harm, Config { retention: RetentionPolicy::Interest, ..good.clone() }),
        ("stream-short-window", Severity::Harm, Config { duplicate_window: Duration::from_secs(60), ..good.clone() }),
        ("stream-no-ack", Severity::Harm, Config { no_ack: true, ..good.clone() }),
        ("stream-differs", Severity::Note, Config { max_age: Duration::from_secs(86_400), ..good.clone() }),
        ("payload-small", Severity::Risk, Config { max_message_size: 8192, ..good.clone() }),
        ("subject-uncaptured", Severity::Harm, Config { subjects: subjects("upcall.uploads.a.>"), ..good.clone() }),
    ];
    for (name, severity, config) in cases {
        context.delete_stream("UPCALL").await.unwrap();
        has(&examine(&bus, &Questions::default()).await, "stream-missing", Severity::Harm);
        context.create_stream(config).await.unwrap();
        has(&examine(&bus, &Questions::default()).await, name, severity);
    }
    // The last one left room for another.
    let other = Config { name: "OTHER".to_owned(), subjects: subjects("upcall.uploads.*.b"), ..Config::default() };
    context.delete_stream("UPCALL").await.unwrap();
    context.create_stream(other).await.unwrap();
    context.create_stream(Config { subjects: subjects("upcall.uploads.a"), ..good.clone() }).await.unwrap();
    has(&examine(&bus, &Questions::default()).await, "subject-elsewhere", Severity::Harm);
    context.delete_stream("UPCALL").await.unwrap();

    let origin = Some(Source { name: "OTHER".to_owned(), ..Source::default() });
    let mirror = Config {
        subjects: Vec::new(),
        mirror: origin,
        duplicate_window: Duration::ZERO,
        // No mirror can have it.
        allow_atomic_publish: false,
        ..good.clone()
    };
    context.create_stream(mirror).await.unwrap();
    has(&examine(&bus, &Questions::default()).await, "stream-mirror", Severity::Harm);
    context.delete_stream("UPCALL").await.unwrap();
    context.delete_stream("OTHER").await.unwrap();

    context.create_stream(good.clone()).await.unwrap();
    context.update_stream(Config { sealed: true, ..good }).await.unwrap();
    has(&examine(&bus, &Questions::default()).await, "stream-sealed", Severity::Harm);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fills_up_and_what_waits_is_found() {
    if nats::is_missing("the examination of what streams hold") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = provisioned(&server).await;
    publish(&context, "upcall.dead.catalog", 2, 10).await;
    publish(&context, "upcall.quarantine.avatars", 1, 10).await;
    let found = examine(&bus, &Questions::default()).await;
    has(&found, "dead-letters", Severity::Risk);
    has(&found, "quarantine", Severity::Note);
    assert!(found[0].what.starts_with("2 dead letters") && found[1].what.starts_with("1 rejected callback "));

    let good = context.get_stream("UPCALL").await.unwrap().cached_info().config.clone();
    context.update_stream(Config { max_messages: 10, ..good.clone() }).await.unwrap();
    publish(&context, "upcall.uploads.a", 8, 10).await;
    let found = examine(&bus, &Questions::default()).await;
    has(&found, "nearly-full", Severity::Risk);
    assert!(found.iter().any(|finding| finding.what.contains("80 %")), "{found:#?}");
    publish(&context, "upcall.uploads.a", 2, 10).await;
    has(&examine(&bus, &Questions::default()).await, "full", Severity::Harm);
    // In bytes, too.
    context.update_stream(Config { max_bytes: 1_000, ..good }).await.unwrap();
    publish(&context, "upcall.uploads.a", 1, 200).await;
    let found = wait_for(&bus, &Questions::default(), "nearly-full").await;
    assert!(found.iter().any(|finding| finding.what.contains("in bytes")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_account_and_a_full_server_are_found() {
    if nats::is_missing("the examination of storage") {
        return;
    }
    let config = "accounts { A { jetstream { max_file: 1000000 }, users: [{ user: a, password: a }] } }".to_owned();
    let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
    let mut options = Options::new(server.url());
    options.auth = upcall_bus_nats::Auth::Password { user: "a".to_owned(), password: "a".to_owned() };
    // What is bounded is reserved, so there would be no room for it.
    options.streams.quarantine_bytes = 100_000;
    let bus = connect(options).await;
    bus.provision(&[]).await.unwrap();
    publish(&async_nats::jetstream::new(bus.client().clone()), "upcall.uploads.a", 8, 101_000).await;
    let found = wait_for(&bus, &Questions::default(), "nearly-full").await;
    assert!(found.iter().any(|finding| finding.what.starts_with("the account's storage")), "{found:#?}");

    let server =
        NatsServer::start_with(&NatsOptions { jetstream: "max_file: 1000000".to_owned(), ..NatsOptions::default() });
    let mut options = Options::new(server.url());
    options.streams.quarantine_bytes = 10_000;
    let bus = connect(options).await;
    bus.provision(&[]).await.unwrap();
    publish(&async_nats::jetstream::new(bus.client().clone()), "upcall.uploads.a", 8, 101_000).await;
    let questions = Questions { monitor: Some(server.monitor_url()), ..Questions::default() };
    let found = wait_for(&bus, &questions, "nearly-full").await;
    assert!(found.iter().any(|finding| finding.what.starts_with("the server's storage")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_configured_wrong_or_left_alone_is_found() {
    if nats::is_missing("the examination of consumers") {
        return;
    }
    let server = NatsServer::start();
    let (bus, context) = provisioned(&server).await;
    publish(&context, "upcall.uploads.a", 5, 10).await;
    let ask = Questions { consumers: vec![spec("c")], ..Questions::default() };
    has(&examine(&bus, &ask).await, "consumer-missing", Severity::Note);

    let stream = context.get_stream("UPCALL").await.unwrap();
    let good = pull::Config {
        durable_name: Some("c".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        max_ack_pending: 2,
        ..pull::Config::default()
    };
    let cases = [
        ("consumer-unread", Severity::Risk, good.clone()),
        ("consumer-gives-up", Severity::Harm, pull::Config { max_deliver: 3, ..good.clone() }),
        (
            "consumer-no-ack",
            Severity::Harm,
            pull::Config { ack_policy: AckPolicy::None, max_ack_pending: 0, ..good.clone() },
        ),
        (
            "consumer-expires",
            Severity::Harm,
            pull::Config { inactive_threshold: Duration::from_secs(3600), ..good.clone() },
        ),
    ];
    for (name, severity, config) in cases {
        stream.create_consumer(config).await.unwrap();
        has(&examine(&bus, &ask).await, name, severity);
        stream.delete_consumer("c").await.unwrap();
    }

    let consumer = stream.create_consumer(good).await.unwrap();
    let soon = Questions { behind: Duration::ZERO, ..ask.clone() };
    has(&examine(&bus, &soon).await, "consumer-behind", Severity::Risk);
    let until = std::time::SystemTime::now() + Duration::from_secs(3600);
    stream.pause_consumer("c", until.into()).await.unwrap();
    let found = examine(&bus, &ask).await;
    has(&found, "consumer-paused", Severity::Risk);
    assert!(!found.iter().any(|finding| finding.kind.name == "consumer-unread"), "it is not to be read: {found:#?}");
    stream.resume_consumer("c").await.unwrap();

    let fetch = async || {
        let mut batch = consumer.fetch().max_messages(2).messages().await.unwrap();
        let mut messages = Vec::new();
        while let Some(message) = batch.next().await {
            messages.push(message.unwrap());
        }
        messages
    };
    let messages = fetch().await;
    has(&examine(&bus, &ask).await, "consumer-full", Severity::Risk);
    for message in messages {
        message.ack_with(AckKind::Nak(None)).await.unwrap();
    }
    assert_eq!(fetch().await.len(), 2);
    has(&examine(&bus, &ask).await, "consumer-redelivered", Severity::Note);

    // From now on the oldest event that is left is always about to go.
    let config = stream.cached_info().config.clone();
    let (max_age, duplicate_window) = (Duration::from_secs(5), Duration::from_secs(5));
    context.update_stream(Config { max_age, duplicate_window, ..config }).await.unwrap();
    let patience = Deadline::after(PATIENCE);
    loop {
        publish(&context, "upcall.uploads.a", 1, 10).await;
        let found = examine(&bus, &ask).await;
        if found.iter().any(|finding| finding.kind.name == "consumer-too-late") {
            break has(&found, "consumer-too-late", Severity::Harm);
        }
        assert!(!patience.has_passed(), "{found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn how_soon_the_disk_is_synced_is_found() {
    if nats::is_missing("the examination of sync_interval") {
        return;
    }
    let server = NatsServer::start();
    let (bus, _) = provisioned(&server).await;
    let names = async |questions: Questions| {
        let found = bus.examine(&questions).await.unwrap();
        let sync = found.iter().filter(|finding| finding.kind.name.starts_with("sync"));
        sync.map(|finding| (finding.kind.name, finding.kind.severity)).collect::<Vec<_>>()
    };
    let (monitor, minutes) = (Some(server.monitor_url()), |minutes: u64| Some(Duration::from_secs(60 * minutes)));
    let unseen = [("sync-interval-unseen", Severity::Risk)];
    let short = [("sync-hold-short", Severity::Harm)];
    assert_eq!(names(Questions::default()).await, unseen);
    assert_eq!(names(Questions { monitor: Some(server.url()), ..Questions::default() }).await, unseen);
    assert_eq!(names(Questions { monitor: Some("https://a".to_owned()), ..Questions::default() }).await, unseen);
    assert_eq!(
        names(Questions { monitor: monitor.clone(), ..Questions::default() }).await,
        [("sync-interval", Severity::Risk)]
    );
    assert_eq!(names(Questions { journal_hold: minutes(5), ..Questions::default() }).await, []);
    assert_eq!(names(Questions { journal_hold: minutes(4), ..Questions::default() }).await, short);
    assert_eq!(names(Questions { journal_hold: minutes(4), monitor, ..Questions::default() }).await, short);
}

/// An hour from now.
fn in_an_hour() -> Timestamp {
    Timestamp::now() + 1.hour()
}

/// An hour ago.
fn an_hour_ago() -> Timestamp {
    Timestamp::now() - 1.hour()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_found_in_both_directions() {
    if nats::is_missing("the examination of clocks") {
        return;
    }
    let server = NatsServer::start();
    let (bus, _) = provisioned(&server).await;
    for (clock, expected) in
        [(in_an_hour as fn() -> Timestamp, "3600.0 s behind ours"), (an_hour_ago, "3600.0 s ahead of ours")]
    {
        let found = examine(&bus, &Questions { clock, ..Questions::default() }).await;
        has(&found, "clock-off", Severity::Risk);
        // Give or take what a busy machine adds.
        let digits = expected.len() - "3600.0".len();
        assert!(found[0].what.ends_with(&expected[expected.len() - digits..]), "{found:#?}");
    }
    assert_eq!(examine(&bus, &Questions::default()).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_and_a_small_one_are_found() {
    if nats::is_missing("the examination of what a server can do") {
        return;
    }
    let config = "max_payload: 16384\naccounts { A { users: [{ user: a, password: a }] } }\nno_auth_user: a".to_owned();
    let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
    let bus = connect(Options::new(server.url())).await;
    let found = bus.examine(&Questions::default()).await.unwrap();
    has(&found, "no-jetstream", Severity::Harm);
    let words = format!("JetStream is off for our account on server {}: add `jetstream: enabled` to", server.name());
    assert!(found[0].what.starts_with(&words), "{found:#?}");
    bus.keep(true, Vec::new());
    bus.first_look().await;
    assert!(bus.fault().unwrap().contains(&words), "/ready and the log say so, too: {:?}", bus.fault());

    let config = "max_payload: 16384".to_owned();
    let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
    let (bus, _) = provisioned(&server).await;
    has(&examine(&bus, &Questions::default()).await, "payload-small", Severity::Risk);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_found() {
    if nats::is_missing("the examination of versions") {
        return;
    }
    let server = NatsServer::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let behind = server.address();
    // Everything as it is, but for the version that the server introduces itself with.
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = BufReader::new(TcpStream::connect(behind).await.unwrap());
            let mut info = String::new();
            server.read_line(&mut info).await.unwrap();
            let (before, rest) = info.split_once("\"version\":\"").unwrap();
            let after = rest.split_once('"').unwrap().1;
            client.write_all(format!("{before}\"version\":\"2.11.9\"{after}").as_bytes()).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    let bus = connect(Options::new(url)).await;
    bus.provision(&[]).await.unwrap();
    let found = examine(&bus, &Questions::default()).await;
    has(&found, "server-old", Severity::Risk);
    assert!(found[0].what.ends_with("is 2.11.9"), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_could_not_be_looked_at() {
    let bus = NatsBus::connect(Options::new("nats://127.0.0.1:1")).await.unwrap();
    let error = bus.examine(&Questions::default()).await.unwrap_err();
    let words = upcall_telemetry::error_chain(&error);
    assert!(words.contains("there is no connection to a NATS server"), "{words}");
}
