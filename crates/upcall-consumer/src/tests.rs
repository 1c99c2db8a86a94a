//! What the runtime promises, on a bus in memory and in the runtime's own time.

mod bus;
mod record;
mod script;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use upcall_bus::SubscribeErrorKind;
use upcall_event::Condition;

use crate::{Options, State, Verdict};
use bus::TestBus;
use script::{Act, ScriptedSink, World, bus_with, id, message, options, retry, unavailable};

/// How an event ends: done, or dead at an attempt for a reason.
type End = Option<(u32, String)>;

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        2 => Just(Verdict::Done),
        4 => (0_u32..100).prop_map(|n| retry(&n.to_string())),
        1 => (0_u64..100, 0_u32..100).prop_map(|(after, n)| Verdict::Retry { after: Some(Duration::from_secs(after)), reason: n.to_string() }),
        1 => (0_u32..100).prop_map(|n| Verdict::Dead { reason: n.to_string() }),
        2 => Just(unavailable()),
    ]
}

/// What the rules say of an event whose deliveries are judged so.
fn oracle(verdicts: &[Verdict], attempts_max: u32) -> End {
    let mut failures = 0;
    for verdict in verdicts {
        match verdict {
            Verdict::Done => return None,
            Verdict::Dead { reason } => return Some((failures + 1, reason.clone())),
            Verdict::Unavailable { .. } => {}
            Verdict::Retry { reason, .. } => {
                failures += 1;
                if failures == attempts_max {
                    return Some((failures, reason.clone()));
                }
            }
        }
    }
    None
}

/// Runs a test in a runtime whose time passes when nothing else happens.
fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

fn script(acts: impl IntoIterator<Item = (u64, Vec<Act>)>) -> ScriptedSink {
    let sink = ScriptedSink::default();
    sink.script.lock().unwrap().extend(acts.into_iter().map(|(number, acts)| (id(number), VecDeque::from(acts))));
    sink
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_event_ends_as_the_rules_say_and_none_is_lost(
        scripts in prop::collection::vec(prop::collection::vec(verdict(), 0..8), 1..40), batch_max in 1_usize..12, concurrency in 1_usize..4,
        attempts_max in 0_u32..5, ordered in any::<bool>(), refuse in 0_usize..20
    ) {
        in_virtual_time(async {
            let bus = bus_with(scripts.len() as u64);
            bus.with(|ledger| ledger.refuse = refuse);
            let acts = scripts.iter().map(|verdicts| verdicts.iter().cloned().map(Act::Say).collect());
            let sink = ScriptedSink { ordered, slowness: Duration::from_millis(10), ..script((0..).zip(acts)) };
            let world = World::start(&bus, sink, options(batch_max, concurrency, attempts_max));
            world.until_settled().await;
            let (sink, stats) = (world.sink.clone(), world.stats.clone());
            world.stop().await.unwrap();

            let expected: BTreeMap<_, End> = (0..).map(id).zip(scripts.iter().map(|verdicts| oracle(verdicts, attempts_max))).collect();
            let (done, dead) = bus.with(|ledger| (ledger.done.clone(), ledger.dead.clone()));
            prop_assert_eq!(done.len() + dead.len(), scripts.len(), "no event ends twice");
            let ends = done.iter().map(|id| (*id, None)).chain(dead.iter().map(|(id, attempt, reason)| (*id, Some((*attempt, reason.clone())))));
            prop_assert_eq!(ends.collect::<BTreeMap<_, End>>(), expected);

            let (seen, log) = (stats.snapshot(), sink.log.lock().unwrap());
            prop_assert_eq!((seen.done, seen.dead, seen.in_flight), (done.len() as u64, dead.len() as u64, 0));
            prop_assert_eq!(seen.delivered, log.batches.iter().map(Vec::len).sum::<usize>() as u64);
            // What was read ahead when the target went down is handed back without having been delivered.
            let settled = seen.done + seen.dead + seen.retried + seen.handed_back;
            prop_assert!((settled - seen.handed_back..=settled).contains(&seen.delivered));
            prop_assert!(log.batches.iter().all(|batch| (1..=batch_max).contains(&batch.len())));
            prop_assert!(log.under_way_max <= concurrency);
            Ok(())
        })?;
    }

    #[test]
    fn an_ordered_sink_never_has_an_object_twice_and_sees_its_events_in_order(
        objects in prop::collection::vec(0_u8..6, 1..60), batch_max in 1_usize..8, concurrency in 1_usize..6
    ) {
        in_virtual_time(async {
            let bus = TestBus::default();
            (0..).zip(&objects).for_each(|(number, object)| bus.push(message(number, &object.to_string())));
            let sink = ScriptedSink { ordered: true, slowness: Duration::from_secs(1), ..ScriptedSink::default() };
            let world = World::start(&bus, sink, options(batch_max, concurrency, 1));
            world.until_settled().await;
            let log = world.sink.log.lock().unwrap();
            prop_assert!(!log.overlapped);
            prop_assert!(log.order.values().all(|sequences| sequences.is_sorted()));
            Ok(())
        })?;
    }
}

#[test]
fn a_sink_that_is_not_ordered_has_several_batches_at_once() {
    in_virtual_time(async {
        let bus = TestBus::default();
        (0..40).for_each(|number| bus.push(message(number, "one")));
        let sink = ScriptedSink { slowness: Duration::from_secs(1), ..ScriptedSink::default() };
        let world = World::start(&bus, sink, options(5, 4, 1));
        let started = Instant::now();
        world.until_settled().await;
        let log = world.sink.log.lock().unwrap();
        assert!(log.overlapped);
        assert_eq!((log.under_way_max, log.batches.len()), (4, 8));
        assert!(started.elapsed() < Duration::from_secs(3), "eight batches of a second, four at once");
    });
}

#[test]
fn the_sink_waits_neither_for_the_bus_nor_for_acknowledgements() {
    in_virtual_time(async {
        let bus = bus_with(60);
        bus.with(|ledger| ledger.slowness = Duration::from_secs(1));
        let sink = ScriptedSink { slowness: Duration::from_secs(1), ..ScriptedSink::default() };
        let world = World::start(&bus, sink, options(1, 1, 1));
        let started = Instant::now();
        world.until_settled().await;
        // One after the other, a read, a delivery and an acknowledgement would take three seconds.
        assert!((60..65).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        assert_eq!(world.sink.log.lock().unwrap().under_way_max, 1);
    });
}

#[test]
fn no_more_is_done_than_the_bus_can_be_told_of() {
    in_virtual_time(async {
        let bus = bus_with(100);
        bus.with(|ledger| ledger.refuse = usize::MAX);
        let world = World::start(&bus, ScriptedSink::default(), options(5, 2, 1));
        sleep(Duration::from_secs(600)).await;
        // Two batches that were at the sink, and two that took their places.
        assert_eq!(world.stats.snapshot().delivered, 20);
        bus.with(|ledger| ledger.refuse = 0);
        world.until_settled().await;
        assert_eq!((world.stats.snapshot().delivered, world.stats.snapshot().done), (100, 100));
    });
}

#[test]
fn events_that_linger_share_a_batch_and_no_event_waits_longer_than_it_may() {
    in_virtual_time(async {
        let bus = TestBus::default();
        let options = Options { linger: Duration::from_secs(60), ..options(5, 2, 1) };
        let world = World::start(&bus, ScriptedSink::default(), options);
        world.until(|world| world.stats.is_ready()).await;
        let started = Instant::now();
        for number in 0..3 {
            bus.push(message(number, &number.to_string()));
            sleep(Duration::from_secs(15)).await;
        }
        world.until_settled().await;
        assert!((60..62).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        assert_eq!(world.sink.log.lock().unwrap().batches.len(), 1);

        // A full batch waits for nobody.
        let started = Instant::now();
        (10..20).for_each(|number| bus.push(message(number, &number.to_string())));
        world.until_settled().await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(world.sink.log.lock().unwrap().batches.len(), 3);
    });
}

#[test]
fn a_shutdown_hands_back_what_lingers() {
    in_virtual_time(async {
        let bus = bus_with(3);
        let options = Options { linger: Duration::from_secs(60), ..options(5, 2, 1) };
        let world = World::start(&bus, ScriptedSink::default(), options);
        world.until(|world| world.bus.with(|ledger| ledger.out()) == 3).await;
        let started = Instant::now();
        world.stop().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(1));
        bus.with(|ledger| assert_eq!((ledger.done.len(), ledger.handed_back, ledger.out()), (0, 3, 0)));
    });
}

#[test]
fn an_outage_of_a_day_costs_no_event_an_attempt() {
    in_virtual_time(async {
        let bus = bus_with(100);
        let sink = ScriptedSink::default();
        let day = Duration::from_secs(86_400);
        *sink.down_until.lock().unwrap() = Some(Instant::now() + day);
        let started = Instant::now();
        let world = World::start(&bus, sink, options(10, 3, 1));
        world.until(|world| world.stats.state() == State::TargetDown).await;
        assert!(!world.stats.is_ready());
        world.until_settled().await;
        assert!(started.elapsed() < day + Duration::from_secs(60), "back soon after the target is");
        world.until(|world| world.stats.is_ready()).await;
        let seen = world.stats.snapshot();
        assert_eq!((seen.done, seen.dead, seen.retried), (100, 0, 0));
        assert_eq!(seen.last_error.as_deref(), Some("down"));
        let log = world.sink.log.lock().unwrap();
        let tries = log.batches.len();
        assert!(
            (86_400 / 30..86_400 / 10).contains(&tries),
            "{tries} deliveries in a day: one at a time, with back-off"
        );
        assert!(log.prepared > 2_000, "the target is made ready again after each");
    });
}

#[test]
fn a_target_that_fails_its_trials_is_not_back_until_an_event_gets_through() {
    in_virtual_time(async {
        let bus = bus_with(1);
        let sink = script([]);
        sink.always.lock().unwrap().insert(id(0), Act::Say(retry("status 401")));
        *sink.fault.lock().unwrap() = Some("status 401 (5 in a row)".to_owned());
        let world = World::start(&bus, sink, options(1, 1, 0));
        let (began, mut seen) = (Instant::now(), BTreeSet::new());
        while began.elapsed() < Duration::from_secs(600) {
            sleep(Duration::from_millis(100)).await;
            seen.insert(world.stats.condition());
        }
        let is_down = |(state, fault): &(State, Option<String>)| {
            *state == State::TargetDown && fault.as_deref() == Some("status 401 (5 in a row)")
        };
        assert!(seen.iter().all(is_down), "it is prepared again and again, and never shown as in order: {seen:?}");
        assert!(world.sink.log.lock().unwrap().batches.len() > 2, "events try it meanwhile");
        *world.sink.fault.lock().unwrap() = None;
        world.sink.always.lock().unwrap().clear();
        world.until_settled().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.stats.state(), State::Ready);
        world.stop().await.unwrap();
    });
}

#[test]
fn an_event_that_is_tried_again_shows_until_it_is_done() {
    in_virtual_time(async {
        let bus = bus_with(3);
        let sink = script([(1, vec![Act::Say(retry("no such column")), Act::Say(retry("no such table"))])]);
        let world = World::start(&bus, sink, options(1, 1, 0));
        while world.stats.snapshot().retried < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        let retrying = world.stats.retrying().unwrap();
        assert_eq!((retrying.events, &*retrying.reason), (1, "no such table"));
        assert_eq!(world.stats.state(), State::Ready);
        world.until_settled().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(world.stats.retrying(), None);
        world.stop().await.unwrap();
    });
}

#[test]
fn a_poisonous_event_dies_alone() {
    for (poison, attempts_max) in [(Act::Panic, 1), (Act::Panic, 3), (Act::Hang, 1), (Act::Hang, 3)] {
        in_virtual_time(async {
            let bus = bus_with(20);
            let sink = ScriptedSink::default();
            sink.always.lock().unwrap().insert(id(7), poison.clone());
            let world = World::start(&bus, sink, options(10, 2, attempts_max));
            world.until_settled().await;
            bus.with(|ledger| {
                assert_eq!(ledger.done.iter().collect::<BTreeSet<_>>().len(), 19, "{poison:?}: its neighbours live");
                let [(dead, attempt, reason)] = &ledger.dead[..] else { panic!("{:?}", ledger.dead) };
                assert_eq!((*dead, *attempt), (id(7), attempts_max));
                assert!(
                    reason == "the sink panicked: as the script says" || reason == "the sink took longer than 30s",
                    "{reason}"
                );
            });
        });
    }
}

#[test]
fn an_event_that_the_condition_leaves_out_is_done_and_never_seen() {
    in_virtual_time(async {
        let bus = TestBus::default();
        (0..100).for_each(|number| bus.push(message(number, if number % 10 == 0 { "a/yes" } else { "no" })));
        let condition = Condition { object: Some(vec!["a/*".parse().unwrap()]), ..Condition::default() };
        let world = World::start(&bus, ScriptedSink::default(), Options { condition, ..options(5, 2, 1) });
        world.until_settled().await;
        let seen = world.stats.snapshot();
        assert_eq!((seen.delivered, seen.done, seen.skipped, seen.dead), (10, 10, 90, 0));
        let log = world.sink.log.lock().unwrap();
        assert!(log.batches.iter().flatten().all(|event| (0..10).any(|number| *event == id(number * 10))));
    });
}

#[test]
fn an_event_without_a_verdict_is_tried_again() {
    in_virtual_time(async {
        let bus = bus_with(5);
        let world = World::start(&bus, script([(2, vec![Act::Silence])]), options(5, 1, 2));
        world.until_settled().await;
        let seen = world.stats.snapshot();
        assert_eq!((seen.done, seen.retried, seen.dead), (5, 3, 0));
    });
}

#[test]
fn a_consumer_is_ready_once_its_target_is() {
    in_virtual_time(async {
        let bus = bus_with(3);
        let sink = ScriptedSink::default();
        *sink.unprepared.lock().unwrap() = vec![Act::Hang, Act::Panic, Act::Silence];
        let world = World::start(&bus, sink, options(5, 1, 1));
        world.until(|world| world.stats.snapshot().last_error.as_deref() == Some("not yet")).await;
        assert_eq!(world.stats.state(), State::TargetDown);
        assert!(bus.with(|ledger| ledger.subscribed), "a new consumer's events count although its target is down");
        world.until_settled().await;
        assert!(world.stats.is_ready());
        assert_eq!(world.sink.log.lock().unwrap().prepared, 4);
    });
}

#[test]
fn a_shutdown_lets_batches_finish_and_hands_the_rest_back() {
    in_virtual_time(async {
        let bus = bus_with(20);
        let sink = ScriptedSink { slowness: Duration::from_secs(5), ..script([(3, vec![Act::Hang])]) };
        let world = World::start(&bus, sink, options(2, 4, 5));
        world.until(|world| world.stats.snapshot().in_flight == 8).await;
        let (sink, stats, started) = (world.sink.clone(), world.stats.clone(), Instant::now());
        world.stop().await.unwrap();
        assert!((9..=11).contains(&started.elapsed().as_secs()), "the drain timeout of 10 seconds holds");
        bus.with(|ledger| {
            assert_eq!(ledger.done.len(), 6, "what was under way is finished, except what hangs");
            assert_eq!((ledger.left(), ledger.out()), (14, 0), "the rest is the bus's again");
            assert_eq!(ledger.failures(id(2)), Some(0), "what was dropped counts as no attempt");
            assert!(!ledger.subscribed);
        });
        assert_eq!(sink.log.lock().unwrap().closed, 1);
        assert_eq!((stats.state(), stats.snapshot().in_flight), (State::Stopped, 0));
    });
}

#[test]
fn a_shutdown_hands_back_what_waits_for_its_object() {
    in_virtual_time(async {
        let bus = TestBus::default();
        (0..10).for_each(|number| bus.push(message(number, "one")));
        let sink = ScriptedSink { ordered: true, slowness: Duration::from_secs(5), ..ScriptedSink::default() };
        let world = World::start(&bus, sink, options(4, 2, 5));
        world.until(|world| world.bus.with(|ledger| ledger.out()) == 10).await;
        let stats = world.stats.clone();
        world.stop().await.unwrap();
        bus.with(|ledger| assert_eq!((ledger.done.len(), ledger.handed_back, ledger.out()), (4, 6, 0)));
        assert_eq!(stats.snapshot().handed_back, 6);
    });
}

#[test]
fn a_settlement_that_the_bus_never_takes_is_dropped_and_the_event_comes_again() {
    in_virtual_time(async {
        let bus = bus_with(1);
        bus.with(|ledger| ledger.refuse = 40);
        let dead = vec![Act::Say(Verdict::Dead { reason: "never".into() }); 9];
        let world = World::start(&bus, script([(0, dead)]), options(1, 1, 1));
        world.until_settled().await;
        let seen = world.stats.snapshot();
        assert!(seen.unsettled >= 1 && seen.delivered == seen.unsettled + 1, "{seen:?}");
        assert_eq!((seen.done, seen.dead), (0, 1));
        let moments = world.sink.log.lock().unwrap().moments.clone();
        let apart: Vec<_> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // It is offered for 30 seconds, the last time up to 2 seconds later; then there is a pause of its own.
        assert!(apart.iter().all(|apart| *apart >= Duration::from_millis(30_500)), "{apart:?}");
    });
}

#[test]
fn what_is_done_is_not_done_again_however_long_the_bus_is_away() {
    let nothing = Condition { route: Some(["another".to_owned()].into()), ..Condition::default() };
    for condition in [Condition::default(), nothing] {
        in_virtual_time(async {
            let bus = bus_with(3);
            // More than an hour at two seconds each.
            bus.with(|ledger| ledger.refuse = 3 * 3_000);
            let world = World::start(&bus, ScriptedSink::default(), Options { condition, ..options(1, 3, 1) });
            world.until(|world| world.stats.state() == State::BusDown).await;
            let fault = world.stats.snapshot().fault.unwrap();
            assert_eq!(fault, "it does not take what became of events: the bus could not take the settlement");
            world.until_settled().await;
            world.until(|world| world.stats.is_ready()).await;
            let seen = world.stats.snapshot();
            assert_eq!((seen.done + seen.skipped, seen.unsettled, seen.fault), (3, 0, None));
            assert!(seen.delivered == seen.done);
        });
    }
}

#[test]
fn a_bus_that_takes_no_settlement_is_left_alone_and_no_event_is_tried_again_without_a_pause() {
    for verdict in [Verdict::Dead { reason: "never".into() }, retry("no")] {
        in_virtual_time(async {
            let bus = bus_with(2);
            bus.with(|ledger| ledger.refuse = usize::MAX);
            let sink = ScriptedSink::default();
            sink.always.lock().unwrap().extend([0, 1].map(|number| (id(number), Act::Say(verdict.clone()))));
            let world = World::start(&bus, sink, options(1, 2, 1));
            world.until(|world| world.stats.state() == State::BusDown).await;
            let fault = world.stats.snapshot().fault.unwrap();
            assert_eq!(fault, "it does not take what became of events: the bus could not take the settlement");
            sleep(Duration::from_secs(3_600)).await;
            bus.with(|ledger| ledger.refuse = 0);
            world.until_settled().await;
            world.until(|world| world.stats.is_ready()).await;
            let seen = world.stats.snapshot();
            assert_eq!((seen.done, seen.dead, &seen.fault), (0, 2, &None));
            assert!((20..200).contains(&seen.unsettled), "{seen:?}");
        });
    }
}

#[test]
fn what_the_bus_gives_to_somebody_else_is_counted_and_nobody_waits_for_it() {
    in_virtual_time(async {
        let bus = bus_with(3);
        bus.with(|ledger| ledger.lose = 2);
        let world = World::start(&bus, ScriptedSink::default(), options(3, 1, 1));
        let started = Instant::now();
        world.until_settled().await;
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!((world.stats.snapshot().unsettled, world.stats.state()), (2, State::Ready));
    });
}

#[test]
fn a_bus_that_is_down_is_waited_for() {
    in_virtual_time(async {
        let bus = bus_with(3);
        bus.with(|ledger| ledger.failures = vec![SubscribeErrorKind::Unavailable; 6]);
        let world = World::start(&bus, ScriptedSink::default(), options(1, 1, 1));
        world.until(|world| world.stats.state() == State::BusDown).await;
        world.until_settled().await;
        world.until(|world| world.stats.is_ready()).await;
        bus.with(|ledger| ledger.failures = vec![SubscribeErrorKind::Unavailable]);
        world.until(|world| world.stats.state() == State::BusDown).await;
        bus.push(message(9, "more"));
        world.until_settled().await;
    });
}

#[test]
fn a_bus_that_is_closed_or_taken_ends_the_consumer() {
    for kind in [SubscribeErrorKind::Closed, SubscribeErrorKind::InUse] {
        in_virtual_time(async {
            let bus = bus_with(0);
            let world = World::start(&bus, ScriptedSink::default(), options(1, 1, 1));
            world.until(|world| world.stats.is_ready()).await;
            bus.with(|ledger| ledger.failures = vec![kind]);
            let (sink, stats) = (world.sink.clone(), world.stats.clone());
            assert_eq!(world.ended().await.unwrap_err().kind, kind);
            assert_eq!((stats.state(), sink.log.lock().unwrap().closed), (State::Stopped, 1));
            assert_eq!(stats.snapshot().fault, Some(kind.to_string()));
        });
    }
}

#[test]
fn an_idle_consumer_stops_at_once() {
    in_virtual_time(async {
        let world = World::start(&bus_with(0), ScriptedSink::default(), options(1, 1, 1));
        world.until(|world| world.stats.is_ready()).await;
        let started = Instant::now();
        world.stop().await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(1)).await;
    });
}

#[test]
fn what_is_done_is_acknowledged_while_the_target_is_out_of_order() {
    in_virtual_time(async {
        let bus = bus_with(2);
        let sink = script([(0, vec![Act::Say(unavailable())])]);
        let sink = ScriptedSink { slowness: Duration::from_secs(1), ..sink };
        let world = World::start(&bus, sink, options(1, 2, 1));
        sleep(Duration::from_millis(500)).await;
        world.sink.unprepared.lock().unwrap().extend(vec![Act::Say(unavailable()); 1000]);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bus.with(|ledger| ledger.done.clone()), [id(1)], "a crash would repeat it");
        assert_eq!(world.stats.snapshot().state, State::TargetDown);
    });
}

#[test]
fn a_batch_of_large_events_is_small() {
    in_virtual_time(async {
        let bus = TestBus::default();
        for number in 0..20 {
            let mut large = message(number, &number.to_string());
            large.event.data.vars.insert("large".to_owned(), "x".repeat(900 << 10));
            bus.push(large);
        }
        let world = World::start(&bus, ScriptedSink::default(), options(500, 2, 1));
        world.until_settled().await;
        let log = world.sink.log.lock().unwrap();
        assert!(log.batches.iter().all(|batch| batch.len() <= 2), "{:?}", log.batches);
    });
}
