//! Whatever comes, in whatever order: the table equals a simple model of it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use upcall_sink_sql::Effect;

use crate::events::{Published, apply, oracle, upload};
use crate::site::{Site, on_each_database, uploads};

/// Each case has tables of its own, and takes a while on a server.
const CASES: u32 = 24;

on_each_database! {
    whatever_the_order_the_batches_and_the_repetitions_the_table_is_the_same
}

/// Uploads (their objects and times), the order in which they are delivered, and where the batches are cut.
type Case = (Vec<(u8, i64)>, Vec<Index>, Vec<usize>);

fn case() -> impl Strategy<Value = Case> {
    (
        prop::collection::vec((0_u8..8, 0_i64..5), 1..60),
        prop::collection::vec(any::<Index>(), 0..120),
        prop::collection::vec(1_usize..40, 1..10),
    )
}

async fn whatever_the_order_the_batches_and_the_repetitions_the_table_is_the_same(mut site: Site) {
    // A generator, not `proptest!`: all cases share one database, whose calls have to wait for each other.
    let mut runner = TestRunner::new(Config::with_cases(CASES));
    for _ in 0..CASES {
        let (uploads, order, cuts) = case().new_tree(&mut runner).unwrap().current();
        let events: Vec<Published> =
            (1..).zip(&uploads).map(|(number, (object, time))| upload(number, &object.to_string(), *time)).collect();
        let deliveries: Vec<Published> = order.iter().map(|index| index.get(&events).clone()).collect();
        run(&mut site, &deliveries, &cuts).await;
    }
}

async fn run(site: &mut Site, deliveries: &[Published], cuts: &[usize]) {
    let effect = || Effect::Table { table: uploads(), history: Some("kept".parse().unwrap()), applied: None };
    // Two processes take turns, or work at once.
    let sinks = [site.sink(effect()).await, site.sink(effect()).await];
    let (mut rest, mut cuts) = (deliveries, cuts.iter().cycle());
    while !rest.is_empty() {
        let (first, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
        let (second, later) = later.split_at(later.len().min(*cuts.next().unwrap()));
        if cuts.next().unwrap() % 2 == 0 && !second.is_empty() {
            tokio::join!(apply(&sinks[0], first), apply(&sinks[1], second));
        } else {
            apply(&sinks[0], first).await;
            if !second.is_empty() {
                apply(&sinks[1], second).await;
            }
        }
        rest = later;
    }
    let context = format!("{deliveries:?}");
    assert_eq!(site.winners().await, oracle(deliveries), "{context}");
    let distinct: BTreeSet<_> = deliveries.iter().map(|published| published.event.id).collect();
    assert_eq!(site.count("uploads_applied").await, distinct.len() as i64, "{context}");
    assert_eq!(site.count("kept").await, distinct.len() as i64, "{context}");
    for table in ["uploads", "uploads_applied", "kept"] {
        site.execute(&format!("DELETE FROM {table}")).await;
    }
}
