//! The body of a callback, read as tolerantly as one meaning allows.
//!
//! OSS fills its values into the uploader's template and validates nothing. So bodies arrive that are neither valid
//! JSON nor a form. What can be read in one way only is repaired; anything else is unreadable.

mod form;
mod json;

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

/// The most fields that a body may have; the longest template of OSS (5 KB) has room for fewer.
const FIELDS_MAX: usize = 1024;

/// The most values that a body may have, nested ones included, for the same reason.
const VALUES_MAX: usize = 4096;

/// The fields of an authenticated callback, under the names that the uploader chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Body<'b> {
    /// Name and value, in their order; no name twice. Form values are strings; an empty value in JSON is null.
    pub fields: Vec<(Cow<'b, str>, Value)>,
    /// What had to be repaired, each kind once.
    pub repairs: Vec<Repair>,
}

/// A fault of the uploader's template that left one meaning only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repair {
    /// A value was missing, as in `"height":,` of something that is no image. It is null.
    EmptyValue,
    /// The colon between name and value was missing.
    MissingColon,
    /// There was a comma behind the last value.
    TrailingComma,
    /// The template quoted a variable that OSS quotes itself: `""a.png""`.
    DoubledQuotes,
    /// A form template was filled in as JSON: `filename="a/b.png"&size=5385`.
    FormFilledAsJson,
    /// The content type says form, and the body is JSON, or the reverse.
    OtherContentType,
}

/// Why an authenticated body has no one meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyError {
    /// It can't be read as what its content type says, nor repaired.
    Unreadable {
        /// What is wrong, and where.
        defect: String,
    },
    /// A name appears twice with different values.
    Conflict {
        /// The name.
        name: String,
    },
    /// A value is a variable that OSS did not fill in: the uploader encoded its template.
    NotFilledIn {
        /// The field's name.
        name: String,
        /// The value, such as `${bucket}`.
        variable: String,
    },
    /// It has more fields or values than any template of OSS.
    TooManyFields,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { defect } => write!(f, "the body can't be read in one way only: {defect}"),
            Self::Conflict { name } => write!(f, "the body names {name:?} twice, with different values"),
            Self::NotFilledIn { name, variable } => {
                write!(
                    f,
                    "OSS did not fill in {variable} of {name:?}: leave `$`, `{{` and `}}` of the callbackBody unencoded"
                )
            }
            Self::TooManyFields => write!(f, "the body has more than {FIELDS_MAX} fields or {VALUES_MAX} values"),
        }
    }
}

impl std::error::Error for BodyError {}

impl BodyError {
    fn unreadable(defect: impl Into<String>) -> Self {
        Self::Unreadable { defect: defect.into() }
    }
}

impl<'b> Body<'b> {
    /// Reads a body. Only called with one whose signature verified.
    pub(crate) fn parse(content_type: Option<&str>, body: &'b [u8]) -> Result<Self, BodyError> {
        let text = str::from_utf8(body).map_err(|_| BodyError::unreadable("it is not UTF-8"))?.trim_ascii();
        // Nobody signed the content type. So the body alone decides how it is read, and what the content type says can
        // only be a reason to refuse it: one signature never stands for two events.
        let (is_json, is_declared) = (says_json(content_type), content_type.is_some());
        let written_as_json = text.starts_with('{') || text.contains("=\"");
        let mut parsed = match (text.starts_with('{'), written_as_json) {
            (true, _) => json::parse(text)?,
            (false, true) => form::parse_filled_as_json(text)?,
            (false, false) if is_json => form::parse_bare_filled_as_json(text)?,
            (false, false) => form::parse(text)?,
        };
        if written_as_json && is_declared && !is_json {
            form::refuse_encoded_strings(&parsed)?;
            parsed.repairs.push(Repair::OtherContentType);
        }
        parsed.repairs.sort_unstable();
        parsed.repairs.dedup();
        for (name, value) in &parsed.fields {
            refuse_unfilled(name, value)?;
        }
        Ok(parsed)
    }

    /// Reads a body that nobody verified. Only fuzz targets can: they can't sign all that they try.
    #[cfg(fuzzing)]
    pub fn parse_unverified(content_type: Option<&str>, body: &'b [u8]) -> Result<Self, BodyError> {
        Self::parse(content_type, body)
    }

    /// The value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }
}

fn says_json(content_type: Option<&str>) -> bool {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// Collects fields, in their order, and refuses a name with two values.
#[derive(Default)]
struct Fields<'b> {
    list: Vec<(Cow<'b, str>, Value)>,
    /// How many came, those that came again included: comparing them all takes its time.
    seen: usize,
}

impl<'b> Fields<'b> {
    fn push(&mut self, name: Cow<'b, str>, value: Value) -> Result<(), BodyError> {
        self.seen += 1;
        if self.seen > FIELDS_MAX {
            return Err(BodyError::TooManyFields);
        }
        match self.list.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known == value => {}
            Some(_) => return Err(BodyError::Conflict { name: name.into_owned() }),
            None => self.list.push((name, value)),
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn into_vec(self) -> Vec<(Cow<'b, str>, Value)> {
        self.list
    }
}

/// The names that `${…}` can hold in a callbackBody, beside `x:…`.
pub(crate) const SYSTEM_VARIABLES: [&str; 14] = [
    "bucket",
    "object",
    "etag",
    "size",
    "mimeType",
    "imageInfo.height",
    "imageInfo.width",
    "imageInfo.format",
    "crc64",
    "contentMd5",
    "vpcId",
    "clientIp",
    "reqId",
    "operation",
];

fn refuse_unfilled(name: &str, value: &Value) -> Result<(), BodyError> {
    match value {
        Value::String(text) => match variable_at_start(text) {
            Some(variable) if variable == text => {
                Err(BodyError::NotFilledIn { name: name.to_owned(), variable: text.clone() })
            }
            _ => Ok(()),
        },
        Value::Object(members) => members.values().try_for_each(|member| refuse_unfilled(name, member)),
        Value::Array(items) => items.iter().try_for_each(|item| refuse_unfilled(name, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// The variable of OSS that a text begins with: `${bucket}`.
fn variable_at_start(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix("${")?.split_once('}')?;
    let is_known = name.starts_with("x:") || SYSTEM_VARIABLES.contains(&name);
    is_known.then(|| &text[..name.len() + "${}".len()])
}

#[cfg(test)]
mod tests;
