//! Which events may be in the stream already, and whether its duplicate window still recognises them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use upcall_bus_journal::RawEvent;

/// A spill's first attempt was made before it was stored: not longer before than a callback's deadline, and a margin.
const ATTEMPT_BEFORE: Duration = Duration::from_secs(15);
/// How far a scan by time begins before the first attempt: clocks differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);
/// For how long events that were sent count as sent at the same moment.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// What is known of events that may be in the stream without having been acknowledged.
#[derive(Debug)]
pub(crate) struct Doubt {
    /// Whether every event may have been sent by somebody else before it was stored.
    spilled: bool,
    /// Events up to this may have been sent.
    tried: u64,
    /// By the first event that each is about; they do not overlap.
    marks: BTreeMap<u64, Mark>,
    /// Events that were found in the stream, and where.
    present: BTreeMap<u64, u64>,
}

/// Events that were not in the stream at some moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The last event that this is about.
    to: u64,
    /// Copies of them are behind this sequence of the stream.
    after: u64,
    /// Copies of them are not older than this.
    since: Moment,
}

/// A moment by both clocks: one may stand still, the other may jump.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    wall_ms: i64,
    instant: Option<Instant>,
}

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It is not in the stream, or the server recognises it.
    Send,
    /// It is in the stream, at this sequence.
    Skip(u64),
    /// It may be in the stream, and the server may have forgotten: the stream's ids are to be looked at.
    Look,
}

/// Where copies of events can be in the stream at the earliest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// After this sequence.
    Sequence(u64),
    /// Stored at or after this moment, by our clock.
    Time(Timestamp),
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { wall_ms: Timestamp::now().as_millisecond(), instant: Some(Instant::now()) }
    }

    pub(crate) fn from_wall(wall_ms: i64) -> Self {
        Self { wall_ms, instant: None }
    }

    pub(crate) fn wall_ms(self) -> i64 {
        self.wall_ms
    }

    fn age(self, now: Self) -> Duration {
        let wall = Duration::from_millis(u64::try_from(now.wall_ms - self.wall_ms).unwrap_or(0));
        match (self.instant, now.instant) {
            (Some(then), Some(now)) => wall.max(now.saturating_duration_since(then)),
            _ => wall,
        }
    }
}

impl Doubt {
    pub(crate) fn new(spilled: bool) -> Self {
        Self { spilled, tried: 0, marks: BTreeMap::new(), present: BTreeMap::new() }
    }

    /// The newest event that may have been sent.
    pub(crate) fn tried(&self) -> u64 {
        self.tried
    }

    /// Takes note that events up to this one may have been sent in an earlier life, nobody knows when.
    pub(crate) fn suspect(&mut self, up_to: u64) {
        self.tried = self.tried.max(up_to);
    }

    /// Takes note that an event is about to be sent, when the stream had this sequence.
    pub(crate) fn sending(&mut self, journal: u64, stream: u64, now: Moment) {
        if journal <= self.tried || self.spilled {
            return;
        }
        let previous = std::mem::replace(&mut self.tried, journal);
        match self.marks.last_entry() {
            Some(mut last) if last.get().to == previous && last.get().since.age(now) < MARK_EVERY => {
                last.get_mut().to = journal;
            }
            _ => drop(self.marks.insert(journal, Mark { to: journal, after: stream, since: now })),
        }
    }

    /// What to do with an event, while the server recognises ids that it has had for no longer than this.
    pub(crate) fn advise(&self, event: &RawEvent, recognised: Duration, now: Moment) -> Advice {
        if event.sequence > self.tried && !self.spilled {
            return Advice::Send;
        }
        if let Some(stream) = self.present.get(&event.sequence) {
            return Advice::Skip(*stream);
        }
        let since = match self.mark(event.sequence) {
            Some(mark) => mark.since,
            None => Moment::from_wall(before(event, ATTEMPT_BEFORE)),
        };
        if since.age(now) < recognised { Advice::Send } else { Advice::Look }
    }

    /// Where copies of the events from `first` to `last` can be at the earliest.
    pub(crate) fn earliest(&self, first: &RawEvent, last: u64) -> From {
        let (mut after, mut next) = (u64::MAX, first.sequence);
        while next <= last {
            let Some(mark) = self.mark(next) else {
                let time = Timestamp::from_millisecond(before(first, ATTEMPT_BEFORE + CLOCKS_DIFFER));
                return From::Time(time.unwrap_or(Timestamp::MIN));
            };
            (after, next) = (after.min(mark.after), mark.to + 1);
        }
        From::Sequence(after)
    }

    /// Takes note of what a look has brought: of the events from `first` to `last`, those that were found, and that the
    /// others were not in the stream up to a sequence, at a moment.
    pub(crate) fn looked(&mut self, first: u64, last: u64, found: BTreeMap<u64, u64>, after: u64, since: Moment) {
        self.present.extend(found);
        let beyond = self.marks.range(..=last).next_back().map(|(_, mark)| *mark).filter(|mark| mark.to > last);
        let before = self.marks.range_mut(..first).next_back().map(|(_, mark)| mark);
        if let Some(mark) = before {
            mark.to = mark.to.min(first - 1);
        }
        self.marks.retain(|start, _| !(first..=last).contains(start));
        if let Some(mark) = beyond {
            self.marks.insert(last + 1, mark);
        }
        self.marks.insert(first, Mark { to: last, after, since });
    }

    /// Where in the stream copies of the events after this one can be at the earliest, and not before when, to be
    /// remembered. `None` where nothing is known of some.
    pub(crate) fn known_after(&self, journal: u64) -> Option<(u64, i64)> {
        let mut next = journal + 1;
        let mut first = *self.mark(next)?;
        while next <= self.tried {
            let mark = self.mark(next)?;
            first.after = first.after.min(mark.after);
            first.since.wall_ms = first.since.wall_ms.min(mark.since.wall_ms);
            next = mark.to + 1;
        }
        // A look that has found them moved their mark on.
        let found = self.present.range(journal + 1..).map(|(_, stream)| stream.saturating_sub(1)).min();
        Some((found.map_or(first.after, |found| found.min(first.after)), first.since.wall_ms))
    }

    /// Takes note of what was remembered of the events from `first` to `last`.
    pub(crate) fn remember(&mut self, first: u64, last: u64, (after, wall_ms): (u64, i64)) {
        if first <= last {
            self.marks.insert(first, Mark { to: last, after, since: Moment::from_wall(wall_ms) });
        }
    }

    /// Forgets what was found, since it was acknowledged.
    pub(crate) fn acknowledged(&mut self, up_to: u64) {
        while self.present.first_key_value().is_some_and(|(journal, _)| *journal <= up_to) {
            self.present.pop_first();
        }
    }

    /// Forgets about events that have left the journal.
    pub(crate) fn release(&mut self, up_to: u64) {
        while self.marks.first_key_value().is_some_and(|(_, mark)| mark.to <= up_to) {
            self.marks.pop_first();
        }
    }

    /// Forgets what was known of the stream: it has lost some of it, or acknowledged events are looked for once more,
    /// of which the marks do not tell where they are.
    pub(crate) fn forget(&mut self) {
        self.marks.clear();
        self.present.clear();
    }

    fn mark(&self, journal: u64) -> Option<&Mark> {
        self.marks.range(..=journal).next_back().map(|(_, mark)| mark).filter(|mark| mark.to >= journal)
    }
}

/// So long before an event was stored, in milliseconds since 1970.
fn before(event: &RawEvent, time: Duration) -> i64 {
    event.stored_at_ms.saturating_sub_unsigned(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use upcall_event::EventId;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(100);

    fn event(sequence: u64, stored_at_ms: i64) -> RawEvent {
        let id = EventId::from_bytes([0; 16]);
        RawEvent { sequence, stored_at_ms, subject: String::new(), id, payload: String::new() }
    }

    fn at(second: i64) -> Moment {
        Moment::from_wall(second * 1_000)
    }

    #[test]
    fn an_event_that_was_never_sent_is_sent_however_old() {
        let doubt = Doubt::new(false);
        assert_eq!(doubt.advise(&event(1, 0), WINDOW, at(1_000_000)), Advice::Send);
    }

    #[test]
    fn an_event_that_was_sent_longer_ago_than_the_server_remembers_is_looked_for_from_there() {
        let mut doubt = Doubt::new(false);
        doubt.sending(1, 70, at(1_000));
        doubt.sending(2, 71, at(1_000));
        doubt.sending(3, 90, at(1_050));
        for sequence in 1..=3 {
            assert_eq!(doubt.advise(&event(sequence, 0), WINDOW, at(1_099)), Advice::Send);
        }
        assert_eq!(doubt.advise(&event(2, 0), WINDOW, at(1_101)), Advice::Look);
        assert_eq!(doubt.earliest(&event(2, 0), 3), From::Sequence(70));
        assert_eq!(doubt.advise(&event(3, 0), WINDOW, at(1_101)), Advice::Send);
        assert_eq!(doubt.advise(&event(3, 0), WINDOW, at(1_151)), Advice::Look);
        assert_eq!(doubt.earliest(&event(3, 0), 3), From::Sequence(90));
    }

    #[test]
    fn a_look_settles_its_events_until_the_server_may_have_forgotten_again() {
        let mut doubt = Doubt::new(false);
        (1..=9).for_each(|sequence| doubt.sending(sequence, 70, at(1_000)));
        doubt.looked(3, 6, BTreeMap::from([(4, 75)]), 80, at(2_000));
        assert_eq!(doubt.advise(&event(4, 0), WINDOW, at(2_001)), Advice::Skip(75));
        assert_eq!(doubt.advise(&event(3, 0), WINDOW, at(2_001)), Advice::Send);
        assert_eq!(doubt.advise(&event(6, 0), WINDOW, at(2_101)), Advice::Look);
        assert_eq!(doubt.earliest(&event(3, 0), 6), From::Sequence(80));
        assert_eq!(doubt.earliest(&event(3, 0), 7), From::Sequence(70), "of all that are looked for");
        for sequence in [1, 2, 7, 9] {
            assert_eq!(doubt.advise(&event(sequence, 0), WINDOW, at(2_001)), Advice::Look);
        }
        doubt.acknowledged(4);
        assert_eq!(doubt.advise(&event(4, 0), WINDOW, at(2_001)), Advice::Send);
    }

    #[test]
    fn what_is_remembered_holds_for_every_event_that_was_sent() {
        let mut doubt = Doubt::new(false);
        doubt.sending(1, 70, at(1_000));
        doubt.sending(2, 75, at(1_050));
        doubt.sending(3, 79, at(1_100));
        assert_eq!(doubt.known_after(0), Some((70, 1_000_000)));
        assert_eq!(doubt.known_after(1), Some((75, 1_050_000)));
        assert_eq!(doubt.known_after(3), None, "nobody has sent another");
        // The first was not there, up to 90, the second is: the third may be where it was sent to.
        doubt.looked(1, 2, BTreeMap::from([(2, 77)]), 90, at(2_000));
        assert_eq!(doubt.known_after(0), Some((76, 1_100_000)));
        assert_eq!(doubt.known_after(2), Some((79, 1_100_000)));
        doubt.acknowledged(2);
        doubt.looked(3, 3, BTreeMap::new(), 95, at(2_000));
        assert_eq!(doubt.known_after(2), Some((95, 2_000_000)));
        doubt.suspect(5);
        assert_eq!(doubt.known_after(2), None, "an earlier life may have sent more");
    }

    #[test]
    fn what_an_earlier_life_may_have_sent_is_looked_for_by_time_unless_it_left_word() {
        let mut doubt = Doubt::new(false);
        doubt.suspect(10);
        doubt.remember(5, 10, (40, 1_000_000));
        let by_time = Timestamp::from_millisecond(1_000_000 - 75_000).unwrap();
        assert_eq!(doubt.advise(&event(4, 1_000_000), WINDOW, at(2_000)), Advice::Look);
        assert_eq!(doubt.earliest(&event(4, 1_000_000), 10), From::Time(by_time));
        assert_eq!(doubt.earliest(&event(5, 1_000_000), 10), From::Sequence(40));
        assert_eq!(doubt.advise(&event(11, 1_000_000), WINDOW, at(2_000)), Advice::Send);
        doubt.forget();
        assert_eq!(doubt.earliest(&event(5, 1_000_000), 10), From::Time(by_time));
    }

    #[test]
    fn a_spill_may_always_be_there_already() {
        let doubt = Doubt::new(true);
        assert_eq!(doubt.advise(&event(1, 1_000_000), WINDOW, at(1_010)), Advice::Send);
        assert_eq!(doubt.advise(&event(1, 1_000_000), WINDOW, at(1_090)), Advice::Look);
    }
}
