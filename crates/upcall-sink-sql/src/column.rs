//! The table's columns: their names, their types, what they hold, and where the value comes from.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde_json::json;
use upcall_consumer::Item;
use upcall_event::Image;

/// A column of the table.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// What it holds, for the reference.
    pub(crate) doc: &'static str,
    value: fn(&Item<'_>) -> Result<Value, Unstorable>,
}

/// What kind of value a column holds; each database has its own type for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Integer,
    /// A few bytes.
    Bytes,
    /// JSON.
    Json,
    /// A moment, to the microsecond.
    Time,
}

/// A value as it is bound. Cheap to clone: a batch that fails is bound again, in halves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(Arc<str>),
}

/// A value that no column takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{column} is {value}, more than a 64-bit column takes")]
pub(crate) struct Unstorable {
    column: &'static str,
    value: u64,
}

impl Column {
    /// The event's value for this column.
    pub(crate) fn value(&self, item: &Item<'_>) -> Result<Value, Unstorable> {
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
/// The columns whose order decides which event is later. Text order is time order: the width is fixed, the zone is UTC.
pub(crate) const ORDER: [&str; 3] = ["uploaded_at", "sequence", "event_id"];

/// All columns that are written, in the table's order.
pub(crate) const COLUMNS: &[Column] = columns! {
    bucket Text required "The bucket's name." => |i| text(&i.event.data.bucket);
    object Text required "The object's full key." => |i| text(&i.event.data.object);
    event_id Text required "The id of the event that the row is from: 32 lower-case hex digits." => |i| text(&i.event.id.to_string());
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
    vars Json required "The uploader's custom variables: a JSON object of strings." => |i| text(&json!(i.event.data.vars).to_string());
    extra Json required "Whatever else the callback's body carried: a JSON object." => |i| text(&json!(i.event.data.extra).to_string());
    route Text required "The route that took the callback." => |i| text(&i.event.data.route);
    bucket_from Text required "Who named the bucket: `body` (signed), `route` or `header`." => |i| text(i.event.data.bucket_from.as_str());
    proof Json required "What was established about the event: a JSON array of `signature`, `grant`, `confirmed`." => |i| text(&json!(i.event.data.proof).to_string());
    origin Text required "How Upcall learnt of the upload: `callback` or `notification`." => |i| text(i.event.data.origin.as_str());
    uploaded_at Time required "When the gateway took the callback in: UTC, as `2026-01-01T00:00:00.000000Z`. The width is fixed, so that the order of the text is the order of time." => |i| text(&time(i.event.time));
    sequence Integer required "The event's place on the bus, which tells two events of one microsecond apart." => |i| integer("sequence", Some(i.sequence));
    updated_at Time required "When the row was last written, in the form of `uploaded_at`." => |_i| text(&time(Timestamp::now()));
};

/// A moment as the table has it: UTC, microseconds, always of the same width.
pub(crate) fn time(time: Timestamp) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    PRINTER.timestamp_to_string(&time)
}

#[expect(clippy::unnecessary_wraps, reason = "all columns have values of one type")]
fn text(text: &str) -> Result<Value, Unstorable> {
    Ok(Value::Text(text.into()))
}

fn optional(value: Option<&str>) -> Result<Value, Unstorable> {
    value.map_or(Ok(Value::Null), text)
}

fn integer(column: &'static str, value: Option<u64>) -> Result<Value, Unstorable> {
    let Some(value) = value else { return Ok(Value::Null) };
    i64::try_from(value).map(Value::Integer).map_err(|_| Unstorable { column, value })
}

fn image<'a>(item: &Item<'a>) -> Option<&'a Image> {
    item.event.data.image.as_ref()
}
