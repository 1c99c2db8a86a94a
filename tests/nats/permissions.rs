//! The permissions that `docs/nats.md` gives to each part are enough for it, and not for more.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use upcall_bus::conformance::{message, rejected_callback};
use upcall_bus::{Archive, Bus, ConsumerSpec, Deadline, Delivery, Publisher, Quarantine, Receipt, Start, Subscription};
use upcall_bus_nats::examine::{Questions, Severity};
use upcall_bus_nats::{Auth, NatsBus, Options};
use upcall_tests::executable::{PATIENCE, workspace};
use upcall_tests::nats::{self, NatsOptions, NatsServer};

/// The server's configuration, as the documentation has it.
fn documented() -> String {
    let text = std::fs::read_to_string(workspace().join("docs/nats.md")).unwrap();
    let block = text.split_once("<!-- Tested:").unwrap().1.split_once("```text\n").unwrap().1;
    block.split_once("```").unwrap().0.to_owned()
}

async fn connect(server: &NatsServer, user: &str, password: &str) -> NatsBus {
    let auth = Auth::Password { user: user.to_owned(), password: password.to_owned() };
    let mut options = Options { auth, ..Options::new(server.url()) };
    // The conformance suite's events are published elsewhere.
    options.subjects = vec!["upcall.uploads.>".to_owned()];
    let bus = NatsBus::connect(options).await.unwrap();
    let mut link = bus.link();
    timeout(PATIENCE, link.wait_for(|link| link.connected)).await.expect("a connection").unwrap();
    bus
}

async fn wait_until_in_order(bus: &NatsBus) {
    let patience = Deadline::after(PATIENCE);
    while let Some(fault) = bus.fault() {
        assert!(!patience.has_passed(), "{fault}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the server has refused to let something be published here.
async fn refuses(bus: &NatsBus, subject: &'static str) {
    bus.client().publish(subject, "".into()).await.unwrap();
    let mut link = bus.link();
    let told = |fault: &Option<String>| fault.as_ref().is_some_and(|fault| fault.contains(subject));
    timeout(PATIENCE, link.wait_for(|link| told(&link.fault))).await.expect("it is refused").unwrap();
}

async fn next(reader: &mut Box<dyn Subscription>) -> Delivery {
    timeout(PATIENCE, reader.next(1)).await.expect("an event").unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_can_do_its_work_and_no_more() {
    if nats::is_missing("permissions") {
        return;
    }
    let server = NatsServer::start_with(&NatsOptions { config: documented(), ..NatsOptions::default() });
    let catalog = ConsumerSpec { name: "catalog".parse().unwrap(), filter: ">".parse().unwrap(), start: Start::Oldest };

    let operator = connect(&server, "operator", "change-me-3").await;
    operator.provision(std::slice::from_ref(&catalog)).await.unwrap();

    let gateway = connect(&server, "gateway", "change-me-1").await;
    gateway.keep(false, Vec::new());
    wait_until_in_order(&gateway).await;
    for (number, expected) in [(1, Receipt::Stored), (2, Receipt::Stored), (1, Receipt::Duplicate)] {
        let mut message = message(number);
        message.subject = "upcall.uploads.examplebucket.PutObject".parse().unwrap();
        assert_eq!(gateway.publish(message, Deadline::after(PATIENCE)).await.unwrap(), expected);
    }
    assert!(gateway.id_at(1).await.unwrap().is_some());
    for _ in 0..2 {
        let mut scan = gateway.scan_ids(0).await.unwrap();
        assert_eq!(scan.next().await.unwrap(), Some((1, Some(message(1).event.id))));
        scan.close().await;
    }
    gateway.quarantine(&[rejected_callback(1)]).await.unwrap();
    refuses(&gateway, "upcall.dead.catalog").await;
    refuses(&gateway, "$JS.API.CONSUMER.MSG.NEXT.UPCALL.catalog").await;

    let consumer = connect(&server, "consumer", "change-me-2").await;
    consumer.keep(false, vec![catalog.clone()]);
    wait_until_in_order(&consumer).await;
    assert_eq!(consumer.remark(), None, "how far it is can be written down");
    let mut reader = consumer.subscribe(&catalog).await.unwrap();
    next(&mut reader).await.ack().await.unwrap();
    next(&mut reader).await.retry(Duration::from_millis(10), "not yet").await.unwrap();
    let again = next(&mut reader).await;
    assert_eq!(again.attempt(), 2);
    again.dead_letter("never").await.unwrap();
    // Where the stream recognises a letter, it is looked whether that is still there.
    let dead = async_nats::jetstream::new(consumer.client().clone()).get_stream_no_info("UPCALL_DEAD").await.unwrap();
    timeout(PATIENCE, dead.get_raw_message(1)).await.expect("it is permitted").unwrap();

    let quarantined = operator.quarantined(0, 10).await.unwrap();
    assert!(operator.drop_quarantined(quarantined[0].number).await.unwrap());
    let letters = operator.dead_letters(0, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "never"));
    assert!(operator.retry_dead_letter(letters[0].number).await.unwrap());
    next(&mut reader).await.ack().await.unwrap();
    let after = operator.sequence_before(Timestamp::UNIX_EPOCH).await.unwrap();
    let page = operator.events(after, &">".parse().unwrap(), 10).await.unwrap();
    assert_eq!(page.events.len(), 2);
    operator.redeliver(&catalog.name, "test", &page.events[..1]).await.unwrap();
    next(&mut reader).await.ack().await.unwrap();
    let questions = Questions { consumers: vec![catalog.clone()], ..Questions::default() };
    let found = operator.examine(&questions).await.unwrap();
    assert!(found.iter().all(|finding| finding.kind.severity < Severity::Harm), "{found:#?}");

    refuses(&consumer, "upcall.uploads.examplebucket.PutObject").await;
    refuses(&consumer, "upcall.dead.another").await;
    refuses(&operator, "upcall.uploads.examplebucket.PutObject").await;
    // Whoever may not look is told so, in time.
    let refused = timeout(PATIENCE, gateway.examine(&questions)).await.expect("in time").unwrap_err();
    let words = upcall_telemetry::error_chain(&refused);
    assert!(words.contains("Permissions Violation"), "{words}");
}
