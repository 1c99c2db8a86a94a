//! The names by which configuration speaks of an event's fields.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::Event;

/// Names one value of an event, as in `${size}`, `${vars.user}` or `${event.id}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    /// A field of [`crate::UploadCompleted`] or of the event around it, by its fixed name.
    Known(Known),
    /// `vars.NAME`: a custom variable.
    Var(String),
    /// `extra.NAME`: anything else the body carried.
    Extra(String),
}

macro_rules! known_fields {
    ($($variant:ident = $name:literal: $value:expr;)+) => {
        /// A field with a fixed name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is named as the field that it stands for")]
        pub enum Known { $($variant),+ }

        impl Known {
            /// Every field with a fixed name.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name, as it stands between `${` and `}`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            fn value(self, event: &Event) -> Value {
                match self { $(Self::$variant => { let read: fn(&Event) -> Value = $value; read(event) }),+ }
            }
        }
    };
}

known_fields! {
    Bucket = "bucket": |e| e.data.bucket.as_str().into();
    Object = "object": |e| e.data.object.as_str().into();
    Etag = "etag": |e| e.data.etag.as_deref().into();
    Size = "size": |e| e.data.size.into();
    MimeType = "mime_type": |e| e.data.mime_type.as_deref().into();
    Crc64 = "crc64": |e| e.data.crc64.as_deref().into();
    ContentMd5 = "content_md5": |e| e.data.content_md5.as_deref().into();
    ImageWidth = "image.width": |e| e.data.image.as_ref().and_then(|i| i.width).into();
    ImageHeight = "image.height": |e| e.data.image.as_ref().and_then(|i| i.height).into();
    ImageFormat = "image.format": |e| e.data.image.as_ref().and_then(|i| i.format.as_deref()).into();
    Operation = "operation": |e| e.data.operation.as_deref().into();
    RequestId = "request_id": |e| e.data.request_id.as_deref().into();
    ClientIp = "client_ip": |e| e.data.client_ip.as_deref().into();
    VpcId = "vpc_id": |e| e.data.vpc_id.as_deref().into();
    Route = "route": |e| e.data.route.as_str().into();
    BucketFrom = "bucket_from": |e| e.data.bucket_from.as_str().into();
    Origin = "origin": |e| e.data.origin.as_str().into();
    EventId = "event.id": |e| e.id.to_string().into();
    EventTime = "event.time": |e| e.time.to_string().into();
}

impl Field {
    /// Reads the field's value; null where the event has none.
    #[must_use]
    pub fn value(&self, event: &Event) -> Value {
        match self {
            Self::Known(known) => known.value(event),
            Self::Var(name) => event.data.vars.get(name).map(String::as_str).into(),
            Self::Extra(name) => event.data.extra.get(name).cloned().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(known) => f.write_str(known.name()),
            Self::Var(name) => write!(f, "vars.{name}"),
            Self::Extra(name) => write!(f, "extra.{name}"),
        }
    }
}

/// A name that no event has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("${{{name}}} is no field of an event; there are {known}, vars.NAME and extra.NAME", known = known_names())]
pub struct UnknownField {
    /// The name as it was written.
    pub name: String,
}

fn known_names() -> String {
    Known::ALL.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Field {
    type Err = UnknownField;

    fn from_str(name: &str) -> Result<Self, UnknownField> {
        let named = |rest: &str, field: fn(String) -> Self| (!rest.is_empty()).then(|| field(rest.to_owned()));
        if let Some(known) = Known::ALL.iter().find(|known| known.name() == name) {
            return Ok(Self::Known(*known));
        }
        let prefixed = match name.split_once('.') {
            Some(("vars", rest)) => named(rest, Self::Var),
            Some(("extra", rest)) => named(rest, Self::Extra),
            _ => None,
        };
        prefixed.ok_or_else(|| UnknownField { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::example;

    #[test]
    fn every_field_of_the_wire_format_has_a_name() {
        let event = example();
        let Value::Object(data) = serde_json::to_value(&event.data).unwrap() else { panic!("data is an object") };
        for (name, expected) in data {
            match name.as_str() {
                "vars" | "extra" | "image" | "proof" => {}
                name => assert_eq!(name.parse::<Field>().unwrap().value(&event), expected, "{name}"),
            }
        }
    }

    #[test]
    fn names_read_back_as_they_are_written() {
        for name in ["vars.user", "extra.a.b", "image.width", "event.id", "event.time"] {
            assert_eq!(name.parse::<Field>().unwrap().to_string(), name);
        }
        for unknown in ["", "Size", "vars.", "extra.", "vars", "image", "x:user", "event"] {
            assert!(unknown.parse::<Field>().is_err(), "{unknown:?} was taken for a field");
        }
    }

    #[test]
    fn values_keep_their_type_and_absent_ones_are_null() {
        let event = example();
        let value = |name: &str| name.parse::<Field>().unwrap().value(&event);
        assert_eq!(value("size"), 1024);
        assert_eq!(value("crc64"), "17834398232350201234");
        assert_eq!(value("vars.user"), "42");
        assert_eq!(value("vars.absent"), Value::Null);
        assert_eq!(value("vpc_id"), Value::Null);
        assert_eq!(value("extra.anything"), "else the body carried");
    }
}
