//! Any run of operations, compared with a model that fits on a page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Harness, consumer, message, nothing_comes, number, publish, subscribe, take, take_one};
use crate::{Delivery, Receipt, Settlement, Subscription};

const RUNS: u64 = 6;
const STEPS: u64 = 120;
const CONSUMERS: [&str; 2] = ["one", "two"];

/// What a consumer should know.
#[derive(Default)]
struct Model {
    /// Event → attempts that failed. What is not in it is settled or not published.
    unsettled: BTreeMap<u64, u32>,
}

/// Publishes, settles in every way, drops, re-subscribes and crashes at random; afterwards every consumer gets exactly
/// what the model says is unsettled, with the attempt that it says.
pub async fn any_run_of_operations_is_as_the_model_says<H: Harness>(mut harness: H) {
    let mut published = BTreeSet::new();
    let mut models: [Model; 2] = Default::default();
    for seed in 0..RUNS {
        let mut random = Random(seed);
        let mut readers: [Option<Box<dyn Subscription>>; 2] = [None, None];
        let mut held: [Vec<Delivery>; 2] = Default::default();
        for _ in 0..STEPS {
            let who = random.below(2);
            match random.below(20) {
                0..6 => {
                    let event = seed * 1_000 + random.next() % 60;
                    let expected = if published.insert(event) { Receipt::Stored } else { Receipt::Duplicate };
                    assert_eq!(publish(&*harness.bus(), message(event)).await, expected, "{event} in run {seed}");
                    if expected == Receipt::Stored {
                        for model in &mut models {
                            model.unsettled.insert(event, 0);
                        }
                    }
                }
                6..12 => {
                    if models[who].unsettled.len() > held[who].len() {
                        let bus = harness.bus();
                        let reader = match &mut readers[who] {
                            Some(reader) => reader,
                            none => none.insert(subscribe(&*bus, &consumer(CONSUMERS[who])).await),
                        };
                        let delivery = take_one(&mut **reader).await;
                        models[who].expect(&delivery, seed);
                        held[who].push(delivery);
                    }
                }
                12..18 => {
                    if !held[who].is_empty() {
                        let at = random.below(held[who].len());
                        let delivery = held[who].swap_remove(at);
                        models[who].settle(delivery, random.below(6)).await;
                    }
                }
                18 => {
                    // A subscription takes what it delivered with it.
                    readers[who] = None;
                    held[who].clear();
                }
                _ => {
                    harness.crash().await;
                    (readers, held) = Default::default();
                }
            }
        }
    }
    harness.crash().await;
    for (name, model) in CONSUMERS.iter().zip(&models) {
        let mut subscription = subscribe(&*harness.bus(), &consumer(name)).await;
        let left = take(&mut *subscription, model.unsettled.len()).await;
        let came: BTreeSet<u64> = left.iter().map(number).collect();
        assert_eq!(came, model.unsettled.keys().copied().collect(), "for {name}");
        left.iter().for_each(|delivery| model.expect(delivery, RUNS));
        nothing_comes(&mut *subscription).await;
    }
}

impl Model {
    fn expect(&self, delivery: &Delivery, seed: u64) {
        let failed = self.unsettled.get(&number(delivery));
        assert_eq!(failed.map(|failed| failed + 1), Some(delivery.attempt()), "{delivery:?} in run {seed}");
    }

    async fn settle(&mut self, delivery: Delivery, how: usize) {
        let event = number(&delivery);
        let settlement = match how {
            0 => Settlement::DeadLetter { reason: "never".into() },
            1 => Settlement::HandBack,
            2 => Settlement::Retry { after: Duration::from_millis(5), reason: "later".into() },
            3 => return drop(delivery),
            _ => Settlement::Ack,
        };
        match settlement {
            Settlement::Ack | Settlement::DeadLetter { .. } => {
                self.unsettled.remove(&event);
            }
            Settlement::Retry { .. } => *self.unsettled.entry(event).or_default() += 1,
            Settlement::HandBack => {}
        }
        delivery.settle(settlement).await.expect("taken");
    }
}

/// SplitMix64: the same runs everywhere, and no dependency.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or_default()
    }
}
