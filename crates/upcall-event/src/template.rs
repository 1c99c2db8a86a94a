//! Text with `${…}` in it.

use std::str::FromStr;

use serde_json::Value;

use crate::{Event, Field, UnknownField};

/// Text whose `${NAME}` stand for an event's values. `$${` is a literal `${`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text that stays as it is.
    Literal(String),
    /// A value of the event.
    Field(Field),
}

/// What is wrong with a template's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A name that no event has.
    #[error(transparent)]
    UnknownField(#[from] UnknownField),
    /// A `${` without its `}`.
    #[error("`${{` without a closing `}}` in {text:?}; write `$${{` for a literal `${{`")]
    Unclosed {
        /// The whole template.
        text: String,
    },
}

impl Template {
    /// The template's pieces, in order; no two literals stand next to each other.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Fills the template in with an event's values.
    ///
    /// A template that is one `${NAME}` and nothing else yields that value, whatever its type; any other
    /// yields a string, in which null is empty and anything that is no string is written as JSON.
    #[must_use]
    pub fn fill(&self, event: &Event) -> Value {
        if let [Part::Field(field)] = self.parts.as_slice() {
            return field.value(event);
        }
        Value::String(self.fill_text(event))
    }

    /// Fills the template in as text.
    #[must_use]
    pub fn fill_text(&self, event: &Event) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Field(field) => push_text(&mut text, &field.value(event)),
            }
        }
        text
    }
}

fn push_text(text: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(string) => text.push_str(string),
        other => text.push_str(&other.to_string()),
    }
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if let Some(before) = rest[..at].strip_suffix('$') {
                literal.push_str(before);
                literal.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let Some((name, after)) = rest[at + 2..].split_once('}') else {
                return Err(InvalidTemplate::Unclosed { text: text.to_owned() });
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Field(name.parse()?));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::example;

    #[track_caller]
    fn check(template: &str, expected: impl Into<Value>) {
        assert_eq!(template.parse::<Template>().unwrap().fill(&example()), expected.into(), "{template}");
    }

    #[test]
    fn a_lone_name_keeps_its_type_and_a_longer_text_is_a_string() {
        check("${size}", 1024);
        check("${vpc_id}", Value::Null);
        check("${size} bytes", "1024 bytes");
        check("[${vpc_id}]", "[]");
        check("https://cdn.example.com/${object}", "https://cdn.example.com/exampledir/exampleobject.txt");
        check("", "");
        check("no names $ { } $x", "no names $ { } $x");
    }

    #[test]
    fn a_doubled_dollar_is_literal() {
        check("$${size}", "${size}");
        check("a $${size} ${size}", "a ${size} 1024");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!("${size".parse::<Template>(), Err(InvalidTemplate::Unclosed { .. })));
        let error = "${sise}".parse::<Template>().unwrap_err();
        assert!(error.to_string().contains("${sise} is no field of an event"), "{error}");
    }
}
