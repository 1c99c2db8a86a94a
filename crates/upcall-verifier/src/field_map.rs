//! Which name in a callback's body stands for which field of the event.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use upcall_event::{Field, Known};

/// Maps names in the body to fields of the event: a route's own names over the usual ones.
///
/// The usual names are those of OSS's variables and their common spellings. A field that a route maps goes by that name
/// only. `filename` is no usual name of the object: it may be anything.
#[derive(Debug, Clone, Default)]
pub struct FieldMap {
    by_name: HashMap<String, Slot>,
    mapped: Vec<Slot>,
    /// Whether a mapped name points into a nested JSON object.
    has_dotted: bool,
}

/// Where a value of the body goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A field with a fixed name.
    Known(KnownSlot),
    /// A custom variable.
    Var(String),
}

/// A mistake in a route's field map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// No event has such a field, or it is not the body's to give.
    #[error("{field:?} is no field that a body gives; there are {known} and vars.NAME", known = known_names())]
    Unknown {
        /// The field as it was written.
        field: String,
    },
    /// The name in the body is empty.
    #[error("{field} takes the name that the callbackBody uses, and it is empty")]
    EmptyName {
        /// The field.
        field: String,
    },
    /// One name in the body stands for two fields.
    #[error("{name:?} in the body can't stand for two fields, {first} and {second}")]
    NameTwice {
        /// The name in the body.
        name: String,
        /// One field.
        first: String,
        /// The other field.
        second: String,
    },
}

macro_rules! known_slots {
    ($($variant:ident = $($usual:literal)|+;)+) => {
        /// A field with a fixed name that the body gives.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum KnownSlot { $($variant),+ }

        impl KnownSlot {
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),+];

            fn usual(name: &str) -> Option<Self> {
                match name { $($($usual)|+ => Some(Self::$variant),)+ _ => None }
            }

            fn known(self) -> Known {
                match self { $(Self::$variant => Known::$variant),+ }
            }
        }
    };
}

known_slots! {
    Bucket = "bucket";
    Object = "object";
    Etag = "etag";
    Size = "size";
    MimeType = "mimeType" | "mime_type";
    Crc64 = "crc64";
    ContentMd5 = "contentMd5" | "content_md5";
    ImageWidth = "imageInfo.width" | "width";
    ImageHeight = "imageInfo.height" | "height";
    ImageFormat = "imageInfo.format" | "format";
    Operation = "operation";
    RequestId = "reqId" | "request_id";
    ClientIp = "clientIp" | "client_ip";
    VpcId = "vpcId" | "vpc_id";
}

impl KnownSlot {
    /// The field's name, as configuration and events have it.
    pub(crate) fn name(self) -> &'static str {
        self.known().name()
    }
}

impl FieldMap {
    /// Checks a route's map, from the event's field to the name in the body.
    ///
    /// # Errors
    /// With every mistake.
    pub fn new(fields: &BTreeMap<String, String>) -> Result<Self, Vec<InvalidField>> {
        let (mut map, mut mistakes) = (Self::default(), Vec::new());
        let mut field_of: HashMap<&str, &str> = HashMap::new();
        for (field, name) in fields {
            let Some(slot) = parse_slot(field) else {
                mistakes.push(InvalidField::Unknown { field: field.clone() });
                continue;
            };
            if name.is_empty() {
                mistakes.push(InvalidField::EmptyName { field: field.clone() });
                continue;
            }
            if let Some(first) = field_of.insert(name, field) {
                let (first, second) = (first.to_owned(), field.clone());
                mistakes.push(InvalidField::NameTwice { name: name.clone(), first, second });
            }
            map.has_dotted |= name.contains('.');
            map.mapped.push(slot.clone());
            map.by_name.insert(name.clone(), slot);
        }
        if mistakes.is_empty() { Ok(map) } else { Err(mistakes) }
    }

    /// Where the value of this name goes; `None` for what is none of the event's fields.
    pub(crate) fn slot(&self, name: &str) -> Option<Slot> {
        if let Some(slot) = self.by_name.get(name) {
            return Some(slot.clone());
        }
        let slot = match (KnownSlot::usual(name), name.strip_prefix("x:")) {
            (Some(known), _) => Slot::Known(known),
            (None, Some(var)) if !var.is_empty() => Slot::Var(var.to_owned()),
            (None, _) => return None,
        };
        (!self.mapped.contains(&slot)).then_some(slot)
    }

    /// Whether members of a JSON object of this name may be fields of the event, under dotted names.
    pub(crate) fn looks_into(&self, name: &str) -> bool {
        name == "imageInfo" || self.has_dotted
    }
}

fn parse_slot(field: &str) -> Option<Slot> {
    match Field::from_str(field).ok()? {
        Field::Known(known) => KnownSlot::ALL.iter().find(|slot| slot.known() == known).map(|slot| Slot::Known(*slot)),
        Field::Var(name) => Some(Slot::Var(name)),
        Field::Extra(_) => None,
    }
}

fn known_names() -> String {
    KnownSlot::ALL.iter().map(|slot| slot.name()).collect::<Vec<_>>().join(", ")
}
