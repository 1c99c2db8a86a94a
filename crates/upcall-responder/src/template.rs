//! Answers that are filled in.
//!
//! An answer is configured as a JSON value whose strings may hold `${…}`. Values are filled in as JSON, not as
//! text, so what comes out is JSON whatever the event holds.

use serde_json::Value;
use upcall_callback::ANSWER_BYTES_MAX;
use upcall_event::{Event, InvalidTemplate, Part, Template};

/// Fills a configured answer in for an event.
#[derive(Debug, Clone)]
pub struct AnswerTemplate {
    pieces: Vec<Piece>,
}

/// A stretch of the answer. In sequence the pieces are one JSON document.
#[derive(Debug, Clone)]
enum Piece {
    /// JSON that is the same for every event.
    Json(Vec<u8>),
    /// One JSON value: a lone `${NAME}` or a string with some.
    Value(Template),
}

/// A string of the configured answer that is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}", path = if path.is_empty() { "the answer" } else { path })]
pub struct InvalidAnswer {
    /// Where in the answer: keys and indices, such as `data.urls[1]`. Empty for the answer itself.
    pub path: String,
    /// What is wrong there.
    pub cause: InvalidTemplate,
}

/// An answer that OSS would not relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has {bytes} bytes, more than the 1 MB that OSS relays")]
pub struct AnswerTooLarge {
    /// Its length.
    pub bytes: usize,
}

impl AnswerTemplate {
    /// Compiles a configured answer.
    ///
    /// # Errors
    /// With every string that is no template or names what no event has.
    pub fn new(answer: &Value) -> Result<Self, Vec<InvalidAnswer>> {
        let mut compiler = Compiler::default();
        compiler.value(answer, "");
        compiler.finish()
    }

    /// Fills it in for an event: one JSON document, at most [`ANSWER_BYTES_MAX`] long.
    ///
    /// # Errors
    /// If the event's values make it longer than that.
    pub fn fill(&self, event: &Event) -> Result<Vec<u8>, AnswerTooLarge> {
        let mut json = Vec::with_capacity(256);
        for piece in &self.pieces {
            match piece {
                Piece::Json(bytes) => json.extend_from_slice(bytes),
                Piece::Value(template) => push_json(&mut json, &template.fill(event)),
            }
        }
        if json.len() > ANSWER_BYTES_MAX { Err(AnswerTooLarge { bytes: json.len() }) } else { Ok(json) }
    }
}

impl Default for AnswerTemplate {
    /// Answers `{"Status":"OK"}`, as Alibaba Cloud's sample servers do.
    fn default() -> Self {
        Self { pieces: vec![Piece::Json(br#"{"Status":"OK"}"#.to_vec())] }
    }
}

#[derive(Default)]
struct Compiler {
    pieces: Vec<Piece>,
    json: Vec<u8>,
    mistakes: Vec<InvalidAnswer>,
}

impl Compiler {
    fn value(&mut self, value: &Value, path: &str) {
        match value {
            Value::String(text) => self.string(text, path),
            Value::Array(items) => {
                self.json.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    self.comma(at);
                    self.value(item, &format!("{path}[{at}]"));
                }
                self.json.push(b']');
            }
            Value::Object(members) => {
                self.json.push(b'{');
                for (at, (key, member)) in members.iter().enumerate() {
                    self.comma(at);
                    push_json(&mut self.json, &Value::from(key.as_str()));
                    self.json.push(b':');
                    self.value(member, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") });
                }
                self.json.push(b'}');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => push_json(&mut self.json, value),
        }
    }

    fn string(&mut self, text: &str, path: &str) {
        let template: Template = match text.parse() {
            Ok(template) => template,
            Err(cause) => return self.mistakes.push(InvalidAnswer { path: path.to_owned(), cause }),
        };
        match template.parts() {
            [] => push_json(&mut self.json, &Value::from("")),
            [Part::Literal(literal)] => push_json(&mut self.json, &Value::from(literal.as_str())),
            _ => {
                self.flush();
                self.pieces.push(Piece::Value(template));
            }
        }
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.json.push(b',');
        }
    }

    fn flush(&mut self) {
        if !self.json.is_empty() {
            self.pieces.push(Piece::Json(std::mem::take(&mut self.json)));
        }
    }

    fn finish(mut self) -> Result<AnswerTemplate, Vec<InvalidAnswer>> {
        self.flush();
        if self.mistakes.is_empty() { Ok(AnswerTemplate { pieces: self.pieces }) } else { Err(self.mistakes) }
    }
}

fn push_json(json: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(json, value).expect("a JSON value can always be written to memory");
}

#[cfg(test)]
pub(crate) mod tests;
