//! What breaks, one thing after the other and sometimes two at once.

mod kind;

use std::fmt;
use std::time::{Duration, Instant};

pub use kind::{Breakage, Fault, Place};

use super::random::Random;
use super::{Fleet, Oracle};

/// No more than this is broken at a time.
const AT_ONCE_MAX: usize = 2;
const POLL: Duration = Duration::from_millis(20);

/// How a run's faults follow each other.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// The seed that decides everything else.
    pub seed: u64,
    /// For how long. However long that is, every fault happens at least once.
    pub duration: Duration,
    /// How long what is broken stays so.
    pub hold: std::ops::Range<Duration>,
    /// How long after one fault began the next one begins.
    pub gap: std::ops::Range<Duration>,
}

/// A fault that happened.
#[derive(Debug, Clone)]
pub struct Happened {
    /// What broke.
    pub fault: Fault,
    /// When, since the run began.
    pub from: Duration,
    /// When it was mended.
    pub to: Duration,
}

impl Happened {
    /// Whether it may explain something that took from `from` to `to`: it holds a little longer than it lasts.
    pub fn overlaps(&self, from: Duration, to: Duration, afterwards: Duration) -> bool {
        self.from <= to && from <= self.to + afterwards
    }
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, from, to } = self;
        write!(f, "{fault} from {:.2} s to {:.2} s", from.as_secs_f64(), to.as_secs_f64())
    }
}

/// Breaks one thing after the other, and mends all of it in the end.
///
/// # Errors
/// If something can't be broken or mended as it should: a process that does not start again, or ended by itself.
pub fn inject(fleet: &Fleet, oracle: &Oracle, rhythm: &Rhythm) -> anyhow::Result<Vec<Happened>> {
    let mut random = Random::new(rhythm.seed);
    let kinds = Fault::kinds(fleet);
    let (mut deck, mut decks) = (Vec::new(), 0);
    let (mut broken, mut happened) = (Vec::<(Fault, Duration, Instant)>::new(), Vec::new());
    let end = Instant::now() + rhythm.duration;
    let mut next = Instant::now();
    // Every fault is begun before the deck is shuffled for the second time.
    while Instant::now() < end || decks < 2 && !(decks == 1 && deck.is_empty()) {
        if let Some(failure) = fleet.processes().find_map(super::Process::has_failed) {
            anyhow::bail!(failure);
        }
        for (index, server) in fleet.servers().iter().enumerate() {
            // Somebody may have had one of its ports when it was to start again.
            if server.has_ended() && !broken.iter().any(|(fault, ..)| fault.stops(index)) {
                kind::launch(server);
            }
        }
        let mut at = 0;
        while at < broken.len() {
            if broken[at].2 <= Instant::now() {
                happened.push(mend(fleet, oracle, broken.swap_remove(at))?);
            } else {
                at += 1;
            }
        }
        if deck.is_empty() {
            deck = kinds.clone();
            random.shuffle(&mut deck);
            decks += 1;
        }
        if next <= Instant::now() && broken.len() < AT_ONCE_MAX {
            let is_free = |kind: &Fault| broken.iter().all(|(other, ..)| !kind.place.collides(other.place));
            if let Some(at) = deck.iter().position(is_free) {
                let fault = deck.remove(at).aimed(fleet, &mut random);
                let from = oracle.now();
                if broken.iter().all(|(other, ..)| !fault.place.collides(other.place)) {
                    fault.inflict(fleet)?;
                    let hold = if fault.is_brief() { Duration::ZERO } else { random.between(&rhythm.hold) };
                    broken.push((fault, from, Instant::now() + hold));
                    next = Instant::now() + random.between(&rhythm.gap);
                } else {
                    deck.push(fault);
                }
            }
        }
        std::thread::sleep(POLL);
    }
    for fault in broken {
        std::thread::sleep(fault.2.saturating_duration_since(Instant::now()));
        happened.push(mend(fleet, oracle, fault)?);
    }
    happened.sort_by_key(|fault| fault.from);
    Ok(happened)
}

fn mend(fleet: &Fleet, oracle: &Oracle, (fault, from, _): (Fault, Duration, Instant)) -> anyhow::Result<Happened> {
    fault.mend(fleet)?;
    Ok(Happened { fault, from, to: oracle.now() })
}
