//! What people are told, before it has the form of any service.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use jiff::Timestamp;
use upcall_event::{Event, Template};

use crate::link::LinkTemplate;
use crate::text::{Text, moment, size};

/// The most custom variables that are told: an uploader may send hundreds.
const VARS_MAX: usize = 5;

/// What is said of an event. The default says what is known about the upload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The title, and a mail's subject.
    pub title: Option<Template>,
    /// What stands under the title, in place of the facts.
    pub text: Option<Template>,
    /// Where the message leads to.
    pub link: Option<LinkTemplate>,
}

/// How several events are told in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// How long events are gathered. For the words only: the consumer gathers.
    pub window: Duration,
    /// How many objects are listed.
    pub list: NonZeroUsize,
}

/// A message, ready to be put in a service's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Names it: an event's id, or one derived from several.
    pub(crate) id: String,
    pub(crate) title: Text,
    pub(crate) lines: Vec<Line>,
    pub(crate) link: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A text of the configuration's; may hold line breaks.
    Text(Text),
    /// Something that is known.
    Fact { label: Text, value: Text },
    /// One object of a list.
    Item(Text),
    /// How many objects the list leaves out.
    More(usize),
}

impl Line {
    /// The line without any form.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Text(text) => text.plain(),
            Self::Fact { label, value } => format!("{}: {}", label.line(), value.line()),
            Self::Item(item) => format!("• {}", item.line()),
            Self::More(count) => more(*count),
        }
    }
}

/// What stands at the end of a list that leaves some out.
pub(crate) fn more(count: usize) -> String {
    format!("… and {count} more")
}

impl Message {
    /// What is said of one event.
    pub(crate) fn one(&self, event: &Event) -> Notice {
        let title = self.title.as_ref().map(|title| Text::fill(title, event));
        let text = self.text.as_ref().map(|text| vec![Line::Text(Text::fill(text, event))]);
        Notice {
            id: event.id.to_string(),
            title: title.unwrap_or_else(|| Text::own("New upload in ").and(Text::value(&event.data.bucket))),
            lines: text.unwrap_or_else(|| facts(event)),
            link: self.link.as_ref().and_then(|link| link.fill(event)),
        }
    }
}

impl Digest {
    /// What is said of several events.
    pub(crate) fn many(&self, id: String, events: &[&Event], now: Timestamp) -> Notice {
        let buckets: BTreeSet<&str> = events.iter().map(|event| event.data.bucket.as_str()).collect();
        let place = match buckets.first() {
            Some(bucket) if buckets.len() == 1 => Text::value(bucket),
            _ => Text::own(format!("{} buckets", buckets.len())),
        };
        let title =
            Text::own(format!("{} uploads in ", events.len())).and(place).and(Text::own(self.when(events, now)));
        let mut lines = Vec::new();
        let sizes: Option<u64> =
            events.iter().map(|event| event.data.size).try_fold(0_u64, |sum, size| sum.checked_add(size?));
        lines.extend(sizes.map(|sum| fact("In all", Text::own(size(sum)))));
        lines.extend(events.iter().take(self.list.get()).map(|event| Line::Item(item(event, buckets.len() > 1))));
        lines.extend(events.len().checked_sub(self.list.get()).filter(|more| *more > 0).map(Line::More));
        Notice { id, title, lines, link: None }
    }

    /// When the uploads were. What has waited, as in an outage, was not in the last minute.
    fn when(&self, events: &[&Event], now: Timestamp) -> String {
        let times = || events.iter().map(|event| event.time);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return String::new() };
        // Half the window is for the way here.
        let is_fresh = now.duration_since(first).unsigned_abs() <= self.window * 3 / 2;
        if is_fresh {
            format!(" in the last {}", in_words(self.window))
        } else {
            format!(" from {} to {}", moment(first), moment(last))
        }
    }
}

impl Notice {
    /// The same with values of at most so many characters, and a list of at most so many objects.
    pub(crate) fn shortened(&self, chars_max: usize, items_max: usize) -> Self {
        let (mut items, mut left_out) = (0, 0);
        let mut lines = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            match line {
                Line::Item(_) if items == items_max => left_out += 1,
                Line::Item(item) => {
                    items += 1;
                    lines.push(Line::Item(item.shortened(chars_max)));
                }
                Line::More(count) => left_out += count,
                Line::Text(text) => lines.push(Line::Text(text.shortened(chars_max))),
                Line::Fact { label, value } => {
                    lines.push(Line::Fact { label: label.shortened(chars_max), value: value.shortened(chars_max) });
                }
            }
        }
        lines.extend((left_out > 0).then_some(Line::More(left_out)));
        Self { title: self.title.shortened(chars_max), lines, ..self.clone() }
    }

    /// All of it without any form.
    pub(crate) fn plain(&self) -> String {
        let lines = [self.title.line()].into_iter().chain(self.lines.iter().map(Line::plain)).chain(self.link.clone());
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn facts(event: &Event) -> Vec<Line> {
    let data = &event.data;
    let mut lines = vec![fact("Object", Text::value(&data.object))];
    lines.extend(data.size.map(|bytes| fact("Size", Text::own(size(bytes)))));
    lines.extend(data.mime_type.as_ref().map(|kind| fact("Type", Text::value(kind))));
    if let Some((width, height)) = data.image.as_ref().and_then(|image| image.width.zip(image.height)) {
        lines.push(fact("Image", Text::own(format!("{width} × {height} pixels"))));
    }
    lines.push(fact("Time", Text::own(moment(event.time))));
    lines.extend(data.client_ip.as_ref().map(|address| fact("From", Text::value(address))));
    let vars = data.vars.iter().take(VARS_MAX);
    lines.extend(vars.map(|(name, value)| Line::Fact { label: Text::value(name), value: Text::value(value) }));
    lines
}

fn fact(label: &str, value: Text) -> Line {
    Line::Fact { label: Text::own(label), value }
}

fn item(event: &Event, with_bucket: bool) -> Text {
    let object = Text::value(&event.data.object);
    let object = if with_bucket { Text::value(&event.data.bucket).and(Text::own("/")).and(object) } else { object };
    match event.data.size {
        Some(bytes) => object.and(Text::own(format!(" ({})", size(bytes)))),
        None => object,
    }
}

/// A window as it stands behind "in the last".
fn in_words(window: Duration) -> String {
    let seconds = window.as_secs().max(1);
    let (count, unit) = match seconds {
        hours if hours % 3600 == 0 => (hours / 3600, "hour"),
        minutes if minutes % 60 == 0 => (minutes / 60, "minute"),
        seconds => (seconds, "second"),
    };
    if count == 1 { unit.to_owned() } else { format!("{count} {unit}s") }
}
