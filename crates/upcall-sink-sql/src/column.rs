//! The table's columns: their names, their types, what they hold, and where the value comes from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;
use serde::Serialize;
use upcall_consumer::Item;
use upcall_event::{Image, Proof};

/// A column of the table.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// What it holds, for the reference.
    pub(crate) doc: &'static str,
    value: for<'e> fn(&Item<'e>) -> Result<Value<'e>, Unstorable>,
}

/// What kind of value a column holds; each database has its own type for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text of any length.
    Text,
    /// A bucket's name.
    Bucket,
    /// An object's key: up to 1,023 bytes of UTF-8.
    Object,
    /// An event's id: 32 hex digits.
    Id,
    Integer,
    /// JSON.
    Json,
    /// A moment, to the microsecond.
    Time,
}

/// A value as it is bound. What is in the event as it is bound is borrowed from there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value<'e> {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number with a fraction, as it is written in decimal.
    Decimal(String),
    Text(Cow<'e, str>),
    /// A moment, in microseconds since 1970.
    Time(i64),
}

impl Value<'_> {
    /// About how many bytes it is on its way to the database.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + VALUE_OVERHEAD,
            Self::Decimal(text) => text.len() + VALUE_OVERHEAD,
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Time(_) => VALUE_OVERHEAD + 8,
        }
    }
}

/// The most that a database's protocol adds to a value.
const VALUE_OVERHEAD: usize = 10;

/// A value that no column takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, more than a 64-bit column takes")]
pub(crate) struct Unstorable {
    pub(crate) name: String,
    pub(crate) value: u64,
}

impl Column {
    /// The event's value for this column.
    pub(crate) fn value<'e>(&self, item: &Item<'e>) -> Result<Value<'e>, Unstorable> {
        (self.value)(item)
    }
}

/// Defines columns: `name Kind null|required "doc" => value`.
macro_rules! columns {
    ($($name:ident $kind:ident $null:ident $doc:literal => |$item:ident| $value:expr;)+) => {
        &[$(Column {
            name: stringify!($name),
            kind: Kind::$kind,
            nullable: columns!(@ $null),
            doc: $doc,
            value: |$item| $value,
        }),+]
    };
    (@ null) => { true };
    (@ required) => { false };
}

/// The columns that make a row the one of its object.
pub(crate) const KEY: [&str; 2] = ["bucket", "object"];
/// The columns whose order decides which event is later.
pub(crate) const ORDER: [&str; 3] = ["uploaded_at", "sequence", "event_id"];

/// All columns that are written, in the table's order.
pub(crate) const COLUMNS: &[Column] = columns! {
    bucket Bucket required "The bucket's name." => |i| text(&i.event.data.bucket);
    object Object required "The object's full key." => |i| text(&i.event.data.object);
    event_id Id required "The id of the event that the row is from: 32 lower-case hex digits." => |i| text(i.event.id.to_string());
    etag Text null "The object's ETag." => |i| optional(i.event.data.etag.as_deref());
    size Integer null "The object's size in bytes." => |i| integer("size", i.event.data.size);
    mime_type Text null "The object's media type." => |i| optional(i.event.data.mime_type.as_deref());
    crc64 Text null "The object's CRC-64/ECMA in decimal; text, since it exceeds a signed 64-bit integer." => |i| optional(i.event.data.crc64.as_deref());
    content_md5 Text null "Base64 of the MD5 of the content that was sent." => |i| optional(i.event.data.content_md5.as_deref());
    image_width Integer null "An image's width in pixels." => |i| integer("image_width", image(i).and_then(|image| image.width));
    image_height Integer null "An image's height in pixels." => |i| integer("image_height", image(i).and_then(|image| image.height));
    image_format Text null "An image's format, such as `jpg`." => |i| optional(image(i).and_then(|image| image.format.as_deref()));
    operation Text null "The operation that completed the upload, such as `PutObject`." => |i| optional(i.event.data.operation.as_deref());
    request_id Text null "The upload's request id at OSS." => |i| optional(i.event.data.request_id.as_deref());
    client_ip Text null "The uploader's address, as OSS saw it." => |i| optional(i.event.data.client_ip.as_deref());
    vpc_id Text null "The VPC that the upload came from." => |i| optional(i.event.data.vpc_id.as_deref());
    vars Json required "The uploader's custom variables: a JSON object of strings." => |i| object(&i.event.data.vars);
    extra Json required "Whatever else the callback's body carried: a JSON object." => |i| object(&i.event.data.extra);
    route Text required "The route that took the callback." => |i| text(&i.event.data.route);
    bucket_from Text required "Who named the bucket: `body` (signed), `route`, `header` or `notification`." => |i| text(i.event.data.bucket_from.as_str());
    proof Json required "What was established about the event: a JSON array of `signature`, `grant`, `confirmed`." => |i| proof(&i.event.data.proof);
    origin Text required "How Upcall learnt of the upload: `callback` or `notification`." => |i| text(i.event.data.origin.as_str());
    uploaded_at Time required "When the gateway took the callback in, to the microsecond." => |i| Ok(Value::Time(i.event.time.as_microsecond()));
    sequence Integer required "The event's place on the bus, which tells two events of one microsecond apart." => |i| integer("sequence", Some(i.sequence));
    updated_at Time required "When the row was last written." => |_i| Ok(Value::Time(Timestamp::now().as_microsecond()));
};

/// A moment in the form of RFC 3339: UTC, microseconds, always of the same width, so that the order of the text is the
/// order of time.
pub(crate) fn rfc3339(microseconds: i64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    PRINTER.timestamp_to_string(&moment(microseconds))
}

/// A moment in the form that MySQL reads: UTC, microseconds, no zone.
pub(crate) fn datetime(microseconds: i64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6)).separator(b' ');
    PRINTER.datetime_to_string(&TimeZone::UTC.to_datetime(moment(microseconds)))
}

fn moment(microseconds: i64) -> Timestamp {
    // It was a moment before: nothing is out of range.
    Timestamp::from_microsecond(microseconds).unwrap_or_default()
}

#[expect(clippy::unnecessary_wraps, reason = "all columns have values of one type")]
fn text<'e>(text: impl Into<Cow<'e, str>>) -> Result<Value<'e>, Unstorable> {
    Ok(Value::Text(text.into()))
}

fn object<'e, V: Serialize>(map: &BTreeMap<String, V>) -> Result<Value<'e>, Unstorable> {
    if map.is_empty() { text("{}") } else { json(map) }
}

fn proof<'e>(proof: &[Proof]) -> Result<Value<'e>, Unstorable> {
    if proof == [Proof::Signature] { text("[\"signature\"]") } else { json(proof) }
}

fn json<'e>(value: &(impl Serialize + ?Sized)) -> Result<Value<'e>, Unstorable> {
    text(serde_json::to_string(value).expect("strings, numbers and maps with string keys are always JSON"))
}

fn optional(value: Option<&str>) -> Result<Value<'_>, Unstorable> {
    value.map_or(Ok(Value::Null), text)
}

fn integer<'e>(name: &str, value: Option<u64>) -> Result<Value<'e>, Unstorable> {
    let Some(value) = value else { return Ok(Value::Null) };
    i64::try_from(value).map(Value::Integer).map_err(|_| Unstorable { name: name.to_owned(), value })
}

fn image<'a>(item: &Item<'a>) -> Option<&'a Image> {
    item.event.data.image.as_ref()
}
