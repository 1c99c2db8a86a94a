//! Plain text with values in it that somebody else chose.

use bytesize::ByteSize;
use jiff::Timestamp;
use upcall_event::{Event, Field, Known, Part, Template};

/// Text, and which pieces of it are an event's values: those are cut where a message gets too long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text(Vec<Span>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Span {
    /// Ours or the configuration's. May hold line breaks.
    Own(String),
    /// An event's: one line, all of it visible.
    Value(String),
}

impl Text {
    pub(crate) fn own(text: impl Into<String>) -> Self {
        Self(vec![Span::Own(text.into())])
    }

    pub(crate) fn value(value: &str) -> Self {
        Self(vec![Span::Value(clean(value))])
    }

    /// Fills a template in for people: sizes have a unit, times no fractions of a second.
    pub(crate) fn fill(template: &Template, event: &Event) -> Self {
        let span = |part: &Part| match part {
            Part::Literal(literal) => Span::Own(literal.clone()),
            Part::Field(field) => Span::Value(clean(&for_people(field, event))),
        };
        Self(template.parts().iter().map(span).collect())
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The text as it is.
    pub(crate) fn plain(&self) -> String {
        self.0.iter().map(|(Span::Own(text) | Span::Value(text))| text.as_str()).collect()
    }

    /// The text on one line.
    pub(crate) fn line(&self) -> String {
        self.plain().split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    }

    /// The same text with no value longer than so many characters.
    pub(crate) fn shortened(&self, chars_max: usize) -> Self {
        let shorten = |span: &Span| match span {
            Span::Own(text) => Span::Own(text.clone()),
            Span::Value(value) => Span::Value(shorten(value, chars_max)),
        };
        Self(self.0.iter().map(shorten).collect())
    }
}

/// A size as people read it.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// A moment as people read it.
pub(crate) fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn for_people(field: &Field, event: &Event) -> String {
    match (field, event.data.size) {
        (Field::Known(Known::Size), Some(bytes)) => return size(bytes),
        (Field::Known(Known::EventTime), _) => return moment(event.time),
        _ => {}
    }
    match field.value(event) {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Keeps the end as well: that is where a file's name and its kind are.
fn shorten(value: &str, chars_max: usize) -> String {
    let chars = value.chars().count();
    if chars <= chars_max {
        return value.to_owned();
    }
    let (front, back) = (chars_max / 2, chars_max.saturating_sub(chars_max / 2 + 1));
    value.chars().take(front).chain(['…']).chain(value.chars().skip(chars - back)).collect()
}

/// Shows every character that would not show itself, or would move what stands around it.
fn clean(value: &str) -> String {
    value.chars().map(|char| if is_hidden(char) { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// The zero-width joiner (U+200D) is not among them: emoji are made with it.
fn is_hidden(char: char) -> bool {
    let code = u32::from(char);
    char.is_control()
        || matches!(code, 0xad | 0x61c | 0x180e | 0x200b | 0x200c | 0x200e | 0x200f | 0x2028..=0x202e | 0x2060..=0x206f)
        || matches!(code, 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe0fff)
        // What Unicode keeps for nobody; XML has no such characters.
        || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}
