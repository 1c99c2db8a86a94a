//! Which dead letters.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use jiff::Timestamp;
use upcall_bus::{Archive, ConsumerName, Letter};
use upcall_event::EventId;

use super::super::kept::Go;
use super::super::moment::before;

/// How many letters are read at once.
const PAGE: usize = 256;

/// Which dead letters a command is about: those that meet every condition.
#[derive(Args)]
pub(super) struct Selection {
    /// Numbers of dead letters, as `list` shows them, or ids of events
    #[arg(value_name = "NUMBER")]
    numbers: Vec<Which>,
    /// The same, by name; may be repeated
    #[arg(long = "id", value_name = "NUMBER")]
    ids: Vec<Which>,
    /// Those of one consumer
    #[arg(long, value_name = "NAME")]
    consumer: Option<ConsumerName>,
    /// Those whose reason contains this text, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those that died longer ago than this
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Those that died since then
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
    /// All of them
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Number(u64),
    Event(EventId),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The id of an event has 32 digits, more than any number.
        match (text.parse(), text.parse()) {
            (Ok(id), _) => Ok(Self::Event(id)),
            (_, Ok(number)) => Ok(Self::Number(number)),
            _ => Err("it is neither a dead letter's number nor an event's id".to_owned()),
        }
    }
}

/// A selection at a moment.
pub(super) struct Selected<'s> {
    selection: &'s Selection,
    events: Vec<EventId>,
    reason: Option<String>,
    died_before: Option<Timestamp>,
    died_after: Option<Timestamp>,
}

impl Selection {
    /// The consumer that it names, if it names one.
    pub(super) fn consumer(&self) -> Option<&ConsumerName> {
        self.consumer.as_ref()
    }

    /// Refuses a selection that says nothing.
    ///
    /// # Errors
    /// With what could be said.
    pub(super) fn demand(&self) -> anyhow::Result<()> {
        if self.is_exact() || self.has_condition() || self.all {
            return Ok(());
        }
        bail!(
            "say which: numbers, --consumer, --reason, --older-than, --newer-than, or --all; `upcall dead list` shows \
             what there is"
        );
    }

    /// Whether each is named.
    pub(super) fn is_exact(&self) -> bool {
        self.which().next().is_some()
    }

    fn has_condition(&self) -> bool {
        self.consumer.is_some() || self.reason.is_some() || self.older_than.is_some() || self.newer_than.is_some()
    }

    fn which(&self) -> impl Iterator<Item = Which> {
        self.numbers.iter().chain(&self.ids).copied()
    }

    /// The selection, its ages counted from now.
    pub(super) fn at(&self, now: Timestamp) -> anyhow::Result<Selected<'_>> {
        let moment = |age: Option<Duration>| age.map(|age| before(now, age)).transpose();
        let event = |which| if let Which::Event(id) = which { Some(id) } else { None };
        Ok(Selected {
            selection: self,
            events: self.which().filter_map(event).collect(),
            reason: self.reason.as_ref().map(|reason| reason.to_lowercase()),
            died_before: moment(self.older_than)?,
            died_after: moment(self.newer_than)?,
        })
    }
}

impl Selected<'_> {
    /// Hands over the letters in pages, oldest first, until `take` has enough. Returns the numbers that were asked for
    /// and are those of no dead letter.
    pub(super) async fn each(
        &self,
        archive: &dyn Archive,
        mut take: impl FnMut(Vec<Letter>) -> anyhow::Result<Go>,
    ) -> anyhow::Result<Vec<u64>> {
        let number = |which| if let Which::Number(number) = which { Some(number) } else { None };
        let mut missing: BTreeSet<u64> = self.selection.which().filter_map(number).collect();
        if !missing.is_empty() && self.events.is_empty() {
            for number in missing.clone() {
                let found = archive.letters(number.saturating_sub(1), 1).await?;
                let found: Vec<_> = found.into_iter().filter(|letter| letter.number() == number).collect();
                if !found.is_empty() {
                    missing.remove(&number);
                }
                let wanted: Vec<_> = found.into_iter().filter(|letter| self.meets(letter)).collect();
                if !wanted.is_empty() && take(wanted)? == Go::Enough {
                    break;
                }
            }
            return Ok(missing.into_iter().collect());
        }
        let asked = missing.clone();
        let mut after = 0;
        loop {
            let page = archive.letters(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.number();
            let is_of = |letter: &Letter| match letter {
                Letter::Readable(letter) => self.events.contains(&letter.stored.event.id),
                Letter::Unreadable(_) => false,
            };
            let named =
                |letter: &Letter| !self.selection.is_exact() || asked.contains(&letter.number()) || is_of(letter);
            missing.retain(|number| !page.iter().any(|letter| letter.number() == *number));
            let wanted: Vec<_> = page.into_iter().filter(|letter| named(letter) && self.meets(letter)).collect();
            if !wanted.is_empty() && take(wanted)? == Go::Enough {
                break;
            }
        }
        Ok(missing.into_iter().collect())
    }

    fn meets(&self, letter: &Letter) -> bool {
        self.selection.consumer.as_ref().is_none_or(|consumer| consumer.as_str() == letter.consumer())
            && self.reason.as_ref().is_none_or(|reason| says(letter, reason))
            && self.died_before.is_none_or(|moment| letter.died_at() < moment)
            && self.died_after.is_none_or(|moment| letter.died_at() >= moment)
    }
}

/// Whether a letter's reason contains this text, or what is wrong with it does.
fn says(letter: &Letter, text: &str) -> bool {
    let contains = |reason: &str| reason.to_lowercase().contains(text);
    match letter {
        Letter::Readable(letter) => contains(&letter.reason),
        Letter::Unreadable(letter) => contains(&letter.fault) || letter.reason.as_deref().is_some_and(contains),
    }
}
