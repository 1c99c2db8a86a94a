//! A body's fields, sorted into the event's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use upcall_callback::Body;
use upcall_event::Image;

use crate::field_map::{FieldMap, KnownSlot, Slot};
use crate::refusal::Refusal;

/// What a body says, under the event's names and in the event's types.
///
/// An empty value is an absent one. A value that is not of its field's type stays under `extra`, as it came: an odd
/// detail is no reason to lose an upload, and no reason to guess.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Normalized {
    pub(crate) bucket: Option<String>,
    pub(crate) object: Option<String>,
    pub(crate) etag: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) mime_type: Option<String>,
    pub(crate) crc64: Option<String>,
    pub(crate) content_md5: Option<String>,
    pub(crate) image: Option<Image>,
    pub(crate) operation: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) client_ip: Option<String>,
    pub(crate) vpc_id: Option<String>,
    pub(crate) vars: BTreeMap<String, String>,
    pub(crate) extra: BTreeMap<String, Value>,
    /// Fields whose value was not of their type, or was two values.
    pub(crate) unread: Vec<&'static str>,
}

impl Normalized {
    /// Sorts the fields in one pass.
    ///
    /// # Errors
    /// If two names give the bucket or the object different values.
    pub(crate) fn new<'m>(body: Body<'m>, map: &'m FieldMap) -> Result<Self, Refusal> {
        let mut sorter = Sorter { map, known: Default::default(), normalized: Self::default() };
        for (name, value) in body.fields {
            sorter.place(name, value);
        }
        sorter.finish()
    }
}

struct Sorter<'m> {
    map: &'m FieldMap,
    known: [Found<'m>; KnownSlot::ALL.len()],
    normalized: Normalized,
}

/// What was found for a field: the name it went by, and its value.
#[derive(Default)]
enum Found<'m> {
    #[default]
    Nothing,
    One(Cow<'m, str>, Value),
    /// Values that differ; they are under `extra`.
    Conflict,
}

impl<'m> Sorter<'m> {
    fn place(&mut self, name: Cow<'m, str>, value: Value) {
        match (self.map.slot(&name), value) {
            (Some(slot), value) => self.fill(slot, name, value),
            (None, Value::Object(members)) if self.map.looks_into(&name) => self.place_members(name, members),
            (None, value) => self.keep(name, value),
        }
    }

    /// Looks for fields among the members of an object; what is left of it is kept.
    fn place_members(&mut self, name: Cow<'m, str>, members: Map<String, Value>) {
        let mut rest = Map::new();
        for (member, value) in members {
            let dotted = format!("{name}.{member}");
            match self.map.slot(&dotted) {
                Some(slot) => self.fill(slot, dotted.into(), value),
                None => {
                    rest.insert(member, value);
                }
            }
        }
        if !rest.is_empty() {
            self.keep(name, Value::Object(rest));
        }
    }

    fn fill(&mut self, slot: Slot, name: Cow<'m, str>, value: Value) {
        if matches!(&value, Value::Null) || value.as_str() == Some("") {
            return;
        }
        match slot {
            Slot::Var(var) => self.fill_var(var, name, value),
            Slot::Known(slot) => match std::mem::replace(&mut self.known[slot as usize], Found::Conflict) {
                Found::Nothing => self.known[slot as usize] = Found::One(name, value),
                Found::One(first, known) if same(&known, &value) => {
                    self.known[slot as usize] = Found::One(first, known);
                }
                Found::One(first, known) => {
                    self.keep(first, known);
                    self.keep(name, value);
                    self.normalized.unread.push(slot.name());
                }
                Found::Conflict => self.keep(name, value),
            },
        }
    }

    fn fill_var(&mut self, var: String, name: Cow<'m, str>, value: Value) {
        match text(value) {
            Ok(text) => {
                // The first one stands; a second name for the same variable is kept apart.
                if let Some(known) = self.normalized.vars.get(&var).filter(|known| **known != text) {
                    tracing::debug!(
                        var,
                        known_bytes = known.len(),
                        "two names in the body give one variable two values"
                    );
                    self.normalized.unread.push("vars");
                    self.keep(name, Value::String(text));
                } else {
                    self.normalized.vars.insert(var, text);
                }
            }
            Err(value) => {
                self.normalized.unread.push("vars");
                self.keep(name, value);
            }
        }
    }

    fn keep(&mut self, name: Cow<'_, str>, value: Value) {
        self.normalized.extra.insert(name.into_owned(), value);
    }

    fn take<T>(&mut self, slot: KnownSlot, read: impl FnOnce(Value) -> Result<T, Value>) -> Option<T> {
        match std::mem::take(&mut self.known[slot as usize]) {
            Found::Nothing | Found::Conflict => None,
            Found::One(name, value) => match read(value) {
                Ok(read) => Some(read),
                Err(value) => {
                    self.normalized.unread.push(slot.name());
                    self.keep(name, value);
                    None
                }
            },
        }
    }

    fn finish(mut self) -> Result<Normalized, Refusal> {
        for slot in [KnownSlot::Bucket, KnownSlot::Object] {
            if matches!(self.known[slot as usize], Found::Conflict) {
                return Err(Refusal::FieldConflict { field: slot.name() });
            }
        }
        let image = Image {
            width: self.take(KnownSlot::ImageWidth, number),
            height: self.take(KnownSlot::ImageHeight, number),
            format: self.take(KnownSlot::ImageFormat, text),
        };
        let has_image = image != Image::default();
        let known = Normalized {
            bucket: self.take(KnownSlot::Bucket, text),
            object: self.take(KnownSlot::Object, text),
            etag: self.take(KnownSlot::Etag, text),
            size: self.take(KnownSlot::Size, number),
            mime_type: self.take(KnownSlot::MimeType, text),
            crc64: self.take(
                KnownSlot::Crc64,
                |value| {
                    if number_of(&value).is_some() { text(value) } else { Err(value) }
                },
            ),
            content_md5: self.take(KnownSlot::ContentMd5, text),
            image: has_image.then_some(image),
            operation: self.take(KnownSlot::Operation, text),
            request_id: self.take(KnownSlot::RequestId, request_id),
            client_ip: self.take(KnownSlot::ClientIp, text),
            vpc_id: self.take(KnownSlot::VpcId, text),
            ..Normalized::default()
        };
        let Normalized { vars, extra, unread, .. } = self.normalized;
        Ok(Normalized { vars, extra, unread, ..known })
    }
}

/// Whether two values say the same, one perhaps as a string and one as a number.
fn same(one: &Value, other: &Value) -> bool {
    let scalar = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    one == other || scalar(one).is_some_and(|text| scalar(other) == Some(text))
}

/// A text; OSS writes numbers bare in JSON, also where the text happens to be one.
fn text(value: Value) -> Result<String, Value> {
    match value {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(other),
    }
}

/// A request id of OSS: 24 hex digits. An application's own id of the same name is none: it may come twice, and the
/// event's id rests on this.
fn request_id(value: Value) -> Result<String, Value> {
    match value {
        Value::String(id) if id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(id),
        other => Err(other),
    }
}

fn number(value: Value) -> Result<u64, Value> {
    number_of(&value).ok_or(value)
}

/// A number in decimal digits, without a sign.
fn number_of(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
