//! Any run of what an operator does beside a consumer, compared with a model that fits on a page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::model::Random;
use super::redeliver::the_last_comes;
use super::{Harness, answer, consumer, dead_letters, number, publish_all, stored, subscribe, take, take_one};
use crate::{Archive, Delivery, Settlement, StoredEvent, Subscription};

const RUNS: u64 = 4;
const STEPS: u64 = 100;
const EVENTS: u64 = 12;
const REPLAYS: [&str; 3] = ["one", "two", "three"];

/// What the bus should know of its consumer.
#[derive(Default)]
struct Model {
    /// Event → attempts that failed. What is in neither of the two is settled.
    unsettled: BTreeMap<u64, u32>,
    /// Event → attempts that there were.
    dead: BTreeMap<u64, u32>,
    /// Replay → what it has given.
    given: BTreeMap<String, BTreeSet<u64>>,
}

/// Settles in every way, retries and drops dead letters, begins replays and resumes them, and crashes at random;
/// afterwards the consumer gets exactly what the model says is unsettled, and exactly what it says is dead is listed.
pub async fn any_run_of_an_operator_is_as_the_model_says<H: Harness>(mut harness: H) {
    publish_all(&*harness.bus(), 0..EVENTS).await;
    let events = stored(&*harness.archive(), usize::try_from(EVENTS).unwrap_or_default()).await;
    let mut model = Model { unsettled: (0..EVENTS).map(|event| (event, 0)).collect(), ..Model::default() };
    for seed in 0..RUNS {
        let mut random = Random(seed);
        let mut reader: Option<Box<dyn Subscription>> = None;
        let mut held: Vec<Delivery> = Vec::new();
        let mut archive = harness.archive();
        for _ in 0..STEPS {
            match random.below(20) {
                0..6 if model.unsettled.len() > held.len() => {
                    let bus = harness.bus();
                    let reader = match &mut reader {
                        Some(reader) => reader,
                        none => none.insert(subscribe(&*bus, &consumer("c")).await),
                    };
                    let delivery = take_one(&mut **reader).await;
                    model.expect(&delivery);
                    held.push(delivery);
                }
                6..12 if !held.is_empty() => {
                    let delivery = held.swap_remove(random.below(held.len()));
                    model.settle(delivery, random.below(6)).await;
                }
                12..15 => model.end_a_death(&*archive, &mut random).await,
                15..18 => {
                    let replay = format!("{} of run {seed}", REPLAYS[random.below(REPLAYS.len())]);
                    model.give(&*archive, replay, &events, &mut random).await;
                }
                18 => {
                    reader = None;
                    held.clear();
                }
                19 => {
                    harness.crash().await;
                    archive = harness.archive();
                    (reader, held) = Default::default();
                }
                _ => {}
            }
        }
    }
    harness.crash().await;
    let archive = harness.archive();
    let letters = dead_letters(&*archive, model.dead.len()).await;
    let dead = letters.iter().map(|letter| (letter.stored.event.data.size.unwrap_or_default(), letter.attempts));
    assert_eq!(dead.collect::<BTreeMap<_, _>>(), model.dead);
    let mut subscription = subscribe(&*harness.bus(), &consumer("c")).await;
    let left = take(&mut *subscription, model.unsettled.len()).await;
    assert_eq!(left.iter().map(number).collect::<BTreeSet<_>>(), model.unsettled.keys().copied().collect());
    for delivery in left {
        model.expect(&delivery);
        delivery.ack().await.expect("taken");
    }
    the_last_comes(&*archive, "c", &mut *subscription, &events[0]).await;
}

impl Model {
    fn expect(&self, delivery: &Delivery) {
        let failed = self.unsettled.get(&number(delivery));
        assert_eq!(failed.map(|failed| failed + 1), Some(delivery.attempt()), "{delivery:?}");
    }

    async fn settle(&mut self, delivery: Delivery, how: usize) {
        let (event, attempt) = (number(&delivery), delivery.attempt());
        let settlement = match how {
            0 | 1 => Settlement::DeadLetter { reason: "never".into() },
            2 => Settlement::HandBack,
            3 => Settlement::Retry { after: Duration::from_millis(5), reason: "later".into() },
            4 => return drop(delivery),
            _ => Settlement::Ack,
        };
        match settlement {
            Settlement::Ack => drop(self.unsettled.remove(&event)),
            Settlement::DeadLetter { .. } => {
                self.unsettled.remove(&event);
                self.dead.insert(event, attempt);
            }
            Settlement::Retry { .. } => *self.unsettled.entry(event).or_default() += 1,
            Settlement::HandBack => {}
        }
        delivery.settle(settlement).await.expect("taken");
    }

    /// Retries or drops one of the dead letters.
    async fn end_a_death(&mut self, archive: &dyn Archive, random: &mut Random) {
        let letters = dead_letters(archive, self.dead.len()).await;
        if letters.is_empty() {
            return;
        }
        let letter = &letters[random.below(letters.len())];
        let event = letter.stored.event.data.size.unwrap_or_default();
        assert_eq!(self.dead.remove(&event), Some(letter.attempts), "{letter:?}");
        if random.below(3) == 0 {
            assert!(answer(archive.drop_dead_letter(letter.number)).await);
        } else {
            assert!(answer(archive.retry_dead_letter(letter.number)).await);
            self.unsettled.insert(event, 0);
        }
    }

    /// Gives events that are settled, and some that the replay has given.
    async fn give(&mut self, archive: &dyn Archive, replay: String, events: &[StoredEvent], random: &mut Random) {
        let (mut chosen, mut new) = (Vec::new(), 0);
        let given = self.given.entry(replay.clone()).or_default();
        for (event, stored) in (0..).zip(events) {
            let settled = !self.unsettled.contains_key(&event) && !self.dead.contains_key(&event);
            if (settled || given.contains(&event)) && random.below(3) == 0 {
                chosen.push(stored.clone());
                if given.insert(event) {
                    self.unsettled.insert(event, 0);
                    new += 1;
                }
            }
        }
        assert_eq!(answer(archive.redeliver(&"c".parse().expect("a name"), &replay, &chosen)).await, new, "{replay}");
    }
}
