//! The types that a single key can have, each read from TOML with a message that says what it takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::reader::kind_of;

/// A value that a key can have.
pub(crate) trait Setting: Sized {
    /// What the reference says the key takes.
    const KIND: &'static str;

    /// Reads the value.
    ///
    /// # Errors
    /// With what is wrong, as the end of a sentence that begins with the key's path.
    fn read(value: &Value) -> Result<Self, String>;
}

fn expected<T: Setting>(value: &Value) -> String {
    format!("takes {}, not {}", T::KIND, kind_of(value))
}

fn text<T: Setting>(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| expected::<T>(value))
}

/// Reads one of some words.
pub(super) fn word<T: Setting + Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| value.as_str() == Some(*word));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| format!("takes {}, not {value}", T::KIND))
}

impl Setting for String {
    const KIND: &'static str = "a string";

    fn read(value: &Value) -> Result<Self, String> {
        text::<Self>(value).map(str::to_owned)
    }
}

impl Setting for bool {
    const KIND: &'static str = "true or false";

    fn read(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| expected::<Self>(value))
    }
}

impl Setting for PathBuf {
    const KIND: &'static str = "a path";

    fn read(value: &Value) -> Result<Self, String> {
        match text::<Self>(value)? {
            "" => Err("takes a path, and is empty".to_owned()),
            path => Ok(path.into()),
        }
    }
}

impl Setting for SocketAddr {
    const KIND: &'static str = "an address with a port, such as \"0.0.0.0:8080\"";

    fn read(value: &Value) -> Result<Self, String> {
        let text = text::<Self>(value)?;
        text.parse().map_err(|_| format!("takes {}, not {text:?}", Self::KIND))
    }
}

impl Setting for Duration {
    const KIND: &'static str = "a duration with its unit, such as \"4500ms\", \"5s\" or \"7d\"";

    fn read(value: &Value) -> Result<Self, String> {
        let text = text::<Self>(value)?;
        humantime::parse_duration(text).map_err(|_| format!("takes {}, not {text:?}", Self::KIND))
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl Setting for Bytes {
    const KIND: &'static str = "a size with its unit, such as \"1MiB\" or \"20GB\"";

    fn read(value: &Value) -> Result<Self, String> {
        let text = text::<Self>(value)?;
        let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
        let size = text.parse::<bytesize::ByteSize>().ok().filter(|_| has_unit);
        size.map(|size| Self(size.0)).ok_or_else(|| format!("takes {}, not {text:?}", Self::KIND))
    }
}

/// A positive number of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(u32);

impl Count {
    pub(crate) fn get(self) -> u32 {
        self.0
    }

    pub(crate) fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl Setting for Count {
    const KIND: &'static str = "a positive integer";

    fn read(value: &Value) -> Result<Self, String> {
        let number = value.as_integer().ok_or_else(|| expected::<Self>(value))?;
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(format!("takes {}, at most {}, not {number}", Self::KIND, u32::MAX)),
        }
    }
}

impl Setting for Vec<String> {
    const KIND: &'static str = "an array of strings";

    fn read(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| expected::<Self>(value))?;
        items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(|| expected::<Self>(item))).collect()
    }
}

impl Setting for Vec<Duration> {
    const KIND: &'static str = "an array of durations with their units, such as [\"5s\", \"5m\"]";

    fn read(value: &Value) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(|| expected::<Self>(value))?;
        items.iter().map(Duration::read).collect()
    }
}

impl Setting for BTreeMap<String, String> {
    const KIND: &'static str = "a table of strings";

    fn read(value: &Value) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| expected::<Self>(value))?;
        let member = |(key, value): (&String, &Value)| match value.as_str() {
            Some(text) => Ok((key.clone(), text.to_owned())),
            None => Err(format!("takes {}; {key} is {}", Self::KIND, kind_of(value))),
        };
        table.iter().map(member).collect()
    }
}

/// Any value that JSON can express.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Json(pub(crate) serde_json::Value);

impl Setting for Json {
    const KIND: &'static str = "any value that JSON has";

    fn read(value: &Value) -> Result<Self, String> {
        to_json(value).map(Self)
    }
}

fn to_json(value: &Value) -> Result<serde_json::Value, String> {
    Ok(match value {
        Value::String(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Boolean(flag) => (*flag).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)
            .ok_or_else(|| format!("takes {}, and JSON has no {number}", Json::KIND))?
            .into(),
        Value::Datetime(_) => return Err("takes any value that JSON has; write the date as a string".to_owned()),
        Value::Array(items) => items.iter().map(to_json).collect::<Result<_, _>>()?,
        Value::Table(members) => members
            .iter()
            .map(|(key, member)| Ok((key.clone(), to_json(member)?)))
            .collect::<Result<serde_json::Map<_, _>, String>>()?
            .into(),
    })
}
