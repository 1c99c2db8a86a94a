//! Bodies in JSON, with the few repairs that have one meaning.
//!
//! One reader for valid and faulty JSON alike, so that no two readers can differ. It leaves strings and numbers to
//! `serde_json`, and reads the structure itself: `serde_json` would let the last of two equal names win.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{Body, BodyError, Fields, Repair, VALUES_MAX, variable_at_start};

/// How deep values may be nested. A template of OSS nests a few levels.
const DEPTH_MAX: usize = 32;

/// Reads a JSON object.
pub(super) fn parse(text: &str) -> Result<Body<'_>, BodyError> {
    let mut parser = Tolerant { rest: text, repairs: Vec::new(), values: 0 };
    let fields = parser.object(0)?;
    parser.skip_space();
    if !parser.rest.is_empty() {
        return Err(parser.defect("something stands behind the closing brace"));
    }
    Ok(Body { fields: fields.into_vec(), repairs: parser.repairs })
}

/// Reads a string at the start of `text`, and returns what stands behind it.
pub(super) fn string(text: &str) -> Result<(Value, &str), BodyError> {
    let mut parser = Tolerant { rest: text, repairs: Vec::new(), values: 0 };
    let value = parser.plain_string()?;
    Ok((Value::String(value.into_owned()), parser.rest))
}

struct Tolerant<'t> {
    rest: &'t str,
    repairs: Vec<Repair>,
    /// How many values there were: each takes many times its text in memory.
    values: usize,
}

impl<'t> Tolerant<'t> {
    fn object(&mut self, depth: usize) -> Result<Fields<'t>, BodyError> {
        if depth == DEPTH_MAX {
            return Err(self.defect("it is nested too deeply"));
        }
        self.take("{");
        let mut fields = Fields::default();
        loop {
            self.skip_space();
            if self.take("}") {
                if !fields.is_empty() {
                    self.repairs.push(Repair::TrailingComma);
                }
                return Ok(fields);
            }
            if !self.rest.starts_with('"') {
                return Err(self.defect("a name in quotes is expected"));
            }
            let name = self.string()?;
            self.skip_space();
            if !self.take(":") {
                if !self.rest.starts_with(|next: char| next == '"' || next == '-' || next.is_ascii_digit()) {
                    return Err(self.defect("a colon is expected"));
                }
                self.repairs.push(Repair::MissingColon);
            }
            self.skip_space();
            if let Some(variable) = variable_at_start(self.rest) {
                return Err(BodyError::NotFilledIn { name: name.into_owned(), variable: variable.to_owned() });
            }
            let value = self.value(depth)?;
            fields.push(name, value)?;
            self.skip_space();
            if self.take("}") {
                return Ok(fields);
            }
            if !self.take(",") {
                return Err(self.defect("a comma or a closing brace is expected"));
            }
        }
    }

    /// Reads an array. `[1,]` is refused: its last value is empty, or its comma is one too many.
    fn array(&mut self, depth: usize) -> Result<Vec<Value>, BodyError> {
        if depth == DEPTH_MAX {
            return Err(self.defect("it is nested too deeply"));
        }
        self.take("[");
        let mut items = Vec::new();
        self.skip_space();
        if self.take("]") {
            return Ok(items);
        }
        loop {
            items.push(self.value(depth)?);
            self.skip_space();
            if self.take("]") {
                return Ok(items);
            }
            if !self.take(",") {
                return Err(self.defect("a comma or a closing bracket is expected"));
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, BodyError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(BodyError::TooManyFields);
        }
        self.skip_space();
        match self.rest.as_bytes().first() {
            Some(b'{') => {
                let fields = self.object(depth + 1)?.into_vec();
                let members = fields.into_iter().map(|(name, value)| (name.into_owned(), value));
                Ok(Value::Object(members.collect::<Map<_, _>>()))
            }
            Some(b'[') => self.array(depth + 1).map(Value::Array),
            Some(b'"') => Ok(Value::String(self.string()?.into_owned())),
            Some(b',' | b'}') => {
                self.repairs.push(Repair::EmptyValue);
                Ok(Value::Null)
            }
            _ => self.scalar(),
        }
    }

    /// Reads a name or a string; `""text""` is the string that a template quoted and OSS quoted again.
    fn string(&mut self) -> Result<Cow<'t, str>, BodyError> {
        let doubled = self.rest.strip_prefix("\"\"").filter(|inner| {
            !inner.is_empty() && !inner.starts_with(|next: char| ",}]:&\"".contains(next) || next.is_ascii_whitespace())
        });
        if doubled.is_some() {
            self.rest = &self.rest[1..];
            let text = self.plain_string()?;
            if !self.take("\"") {
                return Err(self.defect("a quote is missing or too many"));
            }
            self.repairs.push(Repair::DoubledQuotes);
            return Ok(text);
        }
        self.plain_string()
    }

    fn plain_string(&mut self) -> Result<Cow<'t, str>, BodyError> {
        // Nearly every string is itself up to the next quote.
        if let Some(inner) = self.rest.strip_prefix('"')
            && let Some(end) = inner.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < b' ')
            && inner.as_bytes()[end] == b'"'
        {
            self.rest = &inner[end + 1..];
            return Ok(Cow::Borrowed(&inner[..end]));
        }
        match self.strict()? {
            Value::String(text) => Ok(Cow::Owned(text)),
            _ => Err(self.defect("a string is expected")),
        }
    }

    fn scalar(&mut self) -> Result<Value, BodyError> {
        match self.strict()? {
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_)) => Ok(scalar),
            _ => Err(self.defect("a value is expected")),
        }
    }

    /// Reads one valid JSON value.
    fn strict(&mut self) -> Result<Value, BodyError> {
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                self.rest = &self.rest[values.byte_offset()..];
                Ok(value)
            }
            _ => Err(self.defect("a value is expected")),
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn defect(&self, expected: &str) -> BodyError {
        let before: String = self.rest.chars().take(20).collect();
        BodyError::unreadable(if before.is_empty() {
            format!("{expected} at its end")
        } else {
            format!("{expected} before {before:?}")
        })
    }
}
