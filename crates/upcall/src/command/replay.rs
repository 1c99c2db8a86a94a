//! `upcall replay`: gives past events to one consumer again.

mod again;

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use upcall_bus::{Archive, ConsumerName, StoredEvent};
use upcall_event::{Glob, SubjectFilter};

use again::Again;

use super::moment::Moment;
use super::operated;
use super::progress::Progress;
use crate::words::{plural, quoted};
use crate::{runtime, signals};

/// Give past events to one consumer again
///
/// For a consumer whose effects were lost, or that has learnt something new. The events come to that consumer only,
/// beside its other events; those that its own filter does not select are left out. They go by the time at which the bus
/// stored them, and reach back as far as the bus keeps events.
///
/// A replay never makes a second effect in a sink that goes by the event's id, as the SQL sink does: what is in its
/// table stays as it is. So to fill a table anew, remove the ids from its table of applied events, too. A webhook, mail,
/// chats and programs get what they have had once more: that is asked beforehand.
///
/// An interrupted replay goes on when the same command is repeated: it has a name, made of its arguments or given by
/// --name, and what was given under a name is not given under it once more. To give it all again, give it another name.
///
/// Examples:
///   upcall replay -c upcall.toml --consumer catalog --since 2h
///   upcall replay --consumer catalog --since 2026-01-31T12:00:00Z --until 2026-01-31T13:00:00Z --bucket photos
///   upcall replay --consumer catalog --since 7d --object 'avatars/**/*.png' --dry-run
///
/// Exit status: 0 if everything was given, 1 if not: the message says how to go on.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Who gets the events
    #[arg(long, value_name = "NAME")]
    consumer: ConsumerName,
    /// Events that were stored at or after this: RFC 3339, or an age such as 2h
    #[arg(long, value_name = "TIME")]
    since: Moment,
    /// Events that were stored before this; by default now
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Events of this bucket
    #[arg(long, value_name = "BUCKET")]
    bucket: Option<String>,
    /// Events on these subjects; `*` is one token, a final `>` one or more
    #[arg(long, value_name = "SUBJECT")]
    filter: Option<SubjectFilter>,
    /// Events of these objects: `*` is any text without a slash, `**` any text, `?` one character that is no slash
    #[arg(long, value_name = "PATTERN")]
    object: Option<Glob>,
    /// What the replay is called, to be resumed under: at most 512 bytes
    #[arg(long, value_name = "TEXT")]
    name: Option<Name>,
    /// Only count the events
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking. Needed for a webhook, mail, chats and programs where nobody can be asked
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    bus: operated::BusArguments,
}

/// How many events are read and given at once.
const PAGE: usize = 500;

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    runtime::block_on(async {
        let bus = arguments.bus.open().await?;
        let filters = bus.filters_of(&arguments.consumer).await?;
        let again = Again::of(&arguments.consumer, arguments.bus.config());
        if !arguments.dry_run && !again.may_go_on(&arguments.consumer, arguments.yes)? {
            println!("Nothing was done.");
            return Ok(ExitCode::FAILURE);
        }
        let replay = Replay::new(arguments, &*bus.archive(), filters, again).await?;
        replay.run(&*bus.archive()).await
    })
}

/// What a replay is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name(String);

/// The longest name. On NATS it is part of a key, where each byte may take three.
const NAME_BYTES_MAX: usize = 512;

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() {
            0 => Err("a name is not empty".to_owned()),
            1..=NAME_BYTES_MAX if !text.contains(char::is_control) => Ok(Self(text.to_owned())),
            1..=NAME_BYTES_MAX => Err("a name has no control characters".to_owned()),
            bytes => Err(format!("it has {bytes} bytes, and a name has at most {NAME_BYTES_MAX}")),
        }
    }
}

/// A range of events for a consumer.
struct Replay<'a> {
    arguments: &'a Arguments,
    name: Name,
    since: Timestamp,
    until: Timestamp,
    /// The sequences: after this one, up to that one.
    after: u64,
    last: u64,
    /// What the consumer reads by.
    filters: Vec<SubjectFilter>,
    again: Again,
}

/// What became of the events that were looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    /// How many were wanted.
    wanted: u64,
    /// How many of them were given now. The others had been given under the replay's name before.
    given: u64,
}

impl<'a> Replay<'a> {
    async fn new(
        arguments: &'a Arguments,
        archive: &dyn Archive,
        filters: Vec<SubjectFilter>,
        again: Again,
    ) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let since = arguments.since.from(now)?;
        let until = arguments.until.as_ref().map_or(Ok(now), |until| until.from(now))?;
        if since >= until {
            bail!("--since {since} is not before --until {until}");
        }
        let after = archive.sequence_before(since).await?;
        let last = match &arguments.until {
            Some(_) => archive.sequence_before(until).await?,
            // The bus's clock may be another than ours.
            None => archive.last_sequence().await?,
        };
        let name = match &arguments.name {
            Some(name) => name.clone(),
            None => arguments.default_name()?,
        };
        Ok(Self { arguments, name, since, until, after, last, filters, again })
    }

    async fn run(&self, archive: &dyn Archive) -> anyhow::Result<ExitCode> {
        let Self { arguments: Arguments { consumer, dry_run, .. }, name: Name(name), since, until, .. } = self;
        if !dry_run {
            eprintln!(
                "Giving {consumer} what was stored from {since:.0} until {until:.0}; the replay is called {name:?}."
            );
        }
        let stop = signals::shutdown()?;
        let mut progress = Progress::new();
        let (mut at, mut counts) = (self.after, Counts::default());
        let mut outcome = Ok(());
        while at < self.last && outcome.is_ok() {
            if *stop.borrow() {
                outcome = Err(anyhow::anyhow!("interrupted"));
                break;
            }
            outcome = self.step(archive, &mut at, &mut counts).await;
            let part = (at - self.after) as f64 / (self.last - self.after).max(1) as f64;
            let (count, things) = if *dry_run { (counts.wanted, "found") } else { (counts.given, "given") };
            progress.tell(part, count, &format!("events {things}"));
        }
        progress.end();
        outcome.with_context(|| match dry_run {
            true => "the events could not be counted".to_owned(),
            // Of those that were under way at a failure some may have been given, too.
            false => format!("at least {}; to go on: {}", given(counts.given), self.command()),
        })?;
        self.report(counts);
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self, counts: Counts) {
        let Self { arguments: Arguments { consumer, dry_run, .. }, name: Name(name), .. } = self;
        let Counts { wanted, given: now } = counts;
        let before = wanted - now;
        match (dry_run, now, before) {
            (true, ..) => println!(
                "{} would be given to {consumer}, but for those that were given under the name {name:?} before.",
                plural(wanted, "event")
            ),
            (false, 0, 0) => println!("0 events were given to {consumer}: the bus has none in this range."),
            (false, 0, _) => println!(
                "0 events were given to {consumer}: the {before} in this range had been given under the name {name:?} \
                 before."
            ),
            (false, _, 0) => println!("{} to {consumer}, each once under the name {name:?}.", given(now)),
            (false, ..) => println!(
                "{} to {consumer}; {before} more in this range had been given under the name {name:?} before.",
                given(now)
            ),
        }
        if !dry_run && wanted > 0 {
            println!("To give them once more, repeat this with another --name. {}", self.again.to_undo());
        }
    }

    /// Reads some events, and gives those that are wanted.
    async fn step(&self, archive: &dyn Archive, at: &mut u64, counts: &mut Counts) -> anyhow::Result<()> {
        let page = archive.events(*at, self.read_by(), PAGE).await.context("the events can't be read")?;
        let wanted: Vec<StoredEvent> = page.events.into_iter().filter(|stored| self.wants(stored)).collect();
        if !self.arguments.dry_run && !wanted.is_empty() {
            let given = archive.redeliver(&self.arguments.consumer, &self.name.0, &wanted).await;
            counts.given += given.context("the events can't be given")?;
        }
        counts.wanted += wanted.len() as u64;
        *at = if page.end { self.last } else { page.scanned.min(self.last) };
        Ok(())
    }

    /// The filter that the bus is asked with.
    fn read_by(&self) -> &SubjectFilter {
        static EVERYTHING: std::sync::LazyLock<SubjectFilter> = std::sync::LazyLock::new(SubjectFilter::default);
        match (&self.arguments.filter, &self.filters[..]) {
            (Some(filter), _) | (None, [filter]) => filter,
            _ => &EVERYTHING,
        }
    }

    fn wants(&self, stored: &StoredEvent) -> bool {
        let data = &stored.event.data;
        let Arguments { filter, bucket, object, .. } = self.arguments;
        (self.after + 1..=self.last).contains(&stored.sequence)
            && self.filters.iter().any(|filter| filter.matches(&stored.subject))
            && filter.as_ref().is_none_or(|filter| filter.matches(&stored.subject))
            && bucket.as_ref().is_none_or(|bucket| *bucket == data.bucket)
            && object.as_ref().is_none_or(|object| object.matches(&data.object))
    }

    /// The command that goes on, with ages as times: they would mean something else later.
    fn command(&self) -> String {
        let mut command = format!("the same command with --since {} --name {}", self.since, quoted(&self.name.0));
        if self.arguments.until.is_some() {
            command.push_str(&format!(" --until {}", self.until));
        }
        command
    }
}

fn given(count: u64) -> String {
    format!("{} {} given", plural(count, "event"), if count == 1 { "was" } else { "were" })
}

impl Arguments {
    /// The replay's name, the same for the same arguments.
    fn default_name(&self) -> anyhow::Result<Name> {
        let parts = [
            ("since", Some(self.since.text())),
            ("until", self.until.as_ref().map(Moment::text)),
            ("bucket", self.bucket.as_deref()),
            ("filter", self.filter.as_ref().map(SubjectFilter::as_str)),
            ("object", self.object.as_ref().map(Glob::as_str)),
        ];
        let parts: Vec<String> =
            parts.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}"))).collect();
        let name = parts.join(" ").parse();
        name.map_err(|wrong: String| {
            anyhow!("the replay's name is made of its arguments: {wrong}; give one with --name")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_bounded() {
        let parsed = |text: &str| text.parse::<Name>();
        for name in ["a", "since=2h object=a/**/*.png", "it's \"ü\".", &"x".repeat(NAME_BYTES_MAX)] {
            assert_eq!(parsed(name), Ok(Name(name.to_owned())));
        }
        for (name, wrong) in [("", "empty"), (&*"ü".repeat(257), "it has 514 bytes"), ("a\nb", "control characters")] {
            assert!(parsed(name).unwrap_err().contains(wrong), "{name}");
        }
    }
}
