//! What operators see of past events.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use upcall_event::SubjectFilter;

use super::{Harness, answer, consumer, eventually, message_on, publish, publish_all, stored, subscribe};
use crate::{Archive, StoredEvent};

/// How far a bus's clock may be from ours.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(1);
/// How many pages a listing may take here: many times what it needs, so that one without an end is noticed.
const PAGES_MAX: usize = 1_000;

/// What was published is there, in its order, each as it was, with a place and a time that grow.
pub async fn past_events_are_what_was_published<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    assert_eq!(answer(archive.last_sequence()).await, 0);
    let none = answer(archive.events(0, &SubjectFilter::default(), 10)).await;
    assert!(none.events.is_empty() && none.end, "{none:?}");
    let began = Timestamp::now();
    for number in 0..10 {
        publish(&*bus, message_on(number, subject(number))).await;
    }
    let events = stored(&*archive, 10).await;
    let (earliest, latest) = (began - CLOCKS_APART, Timestamp::now() + CLOCKS_APART);
    for (number, stored) in (0..).zip(&events) {
        let message = message_on(number, subject(number));
        assert_eq!((&stored.subject, &stored.event), (&message.subject, &message.event));
        assert!((earliest..=latest).contains(&stored.stored_at), "{} for {number}", stored.stored_at);
    }
    assert!(events.is_sorted_by(|a, b| a.sequence < b.sequence), "{events:?}");
    let last = answer(archive.last_sequence()).await;
    assert_eq!(last, events[9].sequence);
    let end = answer(archive.events(last, &SubjectFilter::default(), 10)).await;
    assert!(end.events.is_empty() && end.end && end.scanned >= last, "{end:?}");
}

/// A listing goes on where its last page ended, however small its pages are, and gives what its filter selects.
pub async fn past_events_come_in_pages_and_by_filter<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    for number in 0..30 {
        publish(&*bus, message_on(number, subject(number))).await;
    }
    stored(&*archive, 30).await;
    for (filter, wanted) in [
        (">", (0..30).collect::<Vec<u64>>()),
        ("upcall.uploads.a.>", (0..30).filter(|number| number % 3 != 2).collect()),
        ("upcall.uploads.*.PostObject", (0..30).filter(|number| number % 3 == 1).collect()),
        ("other.>", Vec::new()),
    ] {
        for max in [1, 7, 100] {
            assert_eq!(listed(&*archive, filter, max).await, wanted, "{filter} in pages of {max}");
        }
    }
}

/// A moment leads to the events from then on.
pub async fn a_moment_leads_to_the_events_since<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    let began = Timestamp::now() - CLOCKS_APART;
    for number in 0..8 {
        publish_all(&*bus, [number]).await;
        // Some with the same time, some with a later one.
        if number % 3 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let events = stored(&*archive, 8).await;
    let since = async |moment| {
        let after = answer(archive.sequence_before(moment)).await;
        answer(archive.events(after, &SubjectFilter::default(), 100)).await.events
    };
    assert_eq!(since(began).await, events);
    assert_eq!(since(Timestamp::UNIX_EPOCH).await, events);
    assert!(since(Timestamp::now() + SignedDuration::from_hours(1)).await.is_empty());
    for moment in events.iter().map(|event| event.stored_at) {
        let wanted: Vec<StoredEvent> = events.iter().filter(|event| event.stored_at >= moment).cloned().collect();
        assert_eq!(since(moment).await, wanted, "since {moment}");
    }
}

/// A bus knows who reads it.
pub async fn consumers_are_known_by_name<H: Harness>(harness: H) {
    let (bus, archive) = (harness.bus(), harness.archive());
    assert_eq!(answer(archive.consumers()).await, []);
    drop(subscribe(&*bus, &consumer("one")).await);
    let _two = subscribe(&*bus, &consumer("two_2-b")).await;
    eventually("two consumers", async || {
        let names = answer(archive.consumers()).await;
        let names: BTreeSet<&str> = names.iter().map(crate::ConsumerName::as_str).collect();
        (names == BTreeSet::from(["one", "two_2-b"])).then_some(())
    })
    .await;
}

fn subject(number: u64) -> &'static str {
    ["upcall.uploads.a.PutObject", "upcall.uploads.a.PostObject", "upcall.uploads.b.PutObject"]
        [usize::try_from(number % 3).unwrap_or_default()]
}

/// All that a filter selects, in pages.
async fn listed(archive: &dyn Archive, filter: &str, max: usize) -> Vec<u64> {
    let filter = filter.parse().expect("a filter");
    let (mut numbers, mut after) = (Vec::new(), 0);
    for _ in 0..PAGES_MAX {
        let page = answer(archive.events(after, &filter, max)).await;
        assert!(page.events.len() <= max, "{} of at most {max} events", page.events.len());
        assert!(page.end || page.scanned > after, "a page that goes nowhere: {page:?}");
        numbers.extend(page.events.iter().filter_map(|stored| stored.event.data.size));
        after = page.scanned;
        if page.end {
            return numbers;
        }
    }
    panic!("there is no end of pages");
}
