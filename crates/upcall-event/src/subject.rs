//! Subjects: where on the bus an event is published, and which of them a consumer wants.
//!
//! The grammar is that of NATS: tokens between dots, `*` for one token and a final `>` for one or more.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::{Event, Field, InvalidTemplate, Part, Template, escape};

/// The most bytes of a subject. NATS takes 4,096 for the line that a subject stands in (`max_control_line`), and cuts a
/// connection that sends more; a reply subject and two lengths stand there, too. Any one object key fits, however escaped.
pub const SUBJECT_BYTES_MAX: usize = 3_500;

/// A subject that an event is published on: non-empty tokens of letters, digits, `_`, `-` and `%`, between dots, at most
/// [`SUBJECT_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(String);

/// Makes a token of any text, so that [`unescape_token`] gives the text back.
///
/// Letters, digits, `_` and `-` of ASCII stand for themselves, every other byte is `%` and two hex digits.
/// The empty text is `_`, and the text `_` is `%5F`. No token can hold a dot, a wildcard or white space.
#[must_use]
pub fn escape_token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    push_token(&mut token, text);
    token
}

fn push_token(subject: &mut String, text: &str) {
    match text {
        "" => return subject.push('_'),
        "_" => return subject.push_str("%5F"),
        _ => {}
    }
    escape::push_percent_encoded(subject, text, is_plain);
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Gives back the text that [`escape_token`] made a token of; `None` for a token that it never makes.
#[must_use]
pub fn unescape_token(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    let text = if token == "_" { String::new() } else { String::from_utf8(bytes).ok()? };
    (escape_token(&text) == token).then_some(text)
}

impl Subject {
    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// It is longer than a server takes.
    #[error(transparent)]
    TooLong(#[from] SubjectTooLong),
    /// It has another form.
    #[error("{0:?} is no subject: it takes tokens of letters, digits, `_`, `-` and `%`, with one dot between two")]
    Form(String),
}

/// A subject that is longer than a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subject has {bytes} bytes, {SUBJECT_BYTES_MAX} are allowed")]
pub struct SubjectTooLong {
    /// How long it is.
    pub bytes: usize,
}

/// The subject, if it is not too long.
fn bounded(subject: String) -> Result<Subject, SubjectTooLong> {
    if subject.len() > SUBJECT_BYTES_MAX { Err(SubjectTooLong { bytes: subject.len() }) } else { Ok(Subject(subject)) }
}

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let is_token = |token: &str| !token.is_empty() && token.bytes().all(|byte| is_plain(byte) || byte == b'%');
        if !text.split('.').all(is_token) {
            return Err(InvalidSubject::Form(text.to_owned()));
        }
        Ok(bounded(text.to_owned())?)
    }
}

/// Makes an event's subject: a literal prefix, then tokens that are literal or one `${NAME}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate {
    prefix: String,
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(String),
    Field(Field),
}

/// What is wrong with a subject template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubjectTemplate {
    /// It is not even a template.
    #[error(transparent)]
    Template(#[from] InvalidTemplate),
    /// It begins with a value, so that an event could choose any subject.
    #[error("a subject begins with a literal token, such as `upcall.uploads.`; {0:?} does not")]
    NoPrefix(String),
    /// A token is neither literal nor one value.
    #[error(
        "{token:?} in subject {text:?} is no token: write letters, digits, `_` and `-`, or exactly one `${{NAME}}`, between two dots"
    )]
    Token {
        /// The token.
        token: String,
        /// The whole template.
        text: String,
    },
}

impl SubjectTemplate {
    /// Where events go unless a route says otherwise: `upcall.uploads.<bucket>.<operation>`.
    pub const DEFAULT: &str = "upcall.uploads.${bucket}.${operation}";

    /// The literal part that every subject of this template begins with, with its final dot (unless it is everything).
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Tells whether any subject of this template can be one that a filter selects, given the only values that some of
    /// the fields can have.
    #[must_use]
    pub fn may_match<'v>(
        &self,
        filter: &SubjectFilter,
        values: impl Fn(&Field) -> Option<&'v BTreeSet<String>>,
    ) -> bool {
        let mut tokens = self.tokens.iter();
        for wanted in filter.0.split('.') {
            let fits = match (wanted, tokens.next()) {
                (_, None) => false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => true,
                (wanted, Some(Token::Literal(literal))) => wanted == literal,
                (wanted, Some(Token::Field(field))) => {
                    values(field).is_none_or(|values| values.iter().any(|value| escape_token(value) == wanted))
                }
            };
            if !fits {
                return false;
            }
        }
        tokens.next().is_none()
    }

    /// The values of a field that a filter names, where a subject of this template has that field.
    pub fn named(&self, filter: &SubjectFilter, field: &Field) -> impl Iterator<Item = String> {
        let places = filter.0.split('.').zip(&self.tokens);
        let is_named = |token: &str| token != "*" && token != ">";
        let named = places.filter(move |(wanted, token)| is_named(wanted) && **token == Token::Field(field.clone()));
        named.filter_map(|(wanted, _)| unescape_token(wanted))
    }

    /// Makes the event's subject. Whatever the event holds, the subject has as many tokens as the template.
    ///
    /// # Errors
    /// If it is longer than a server takes: a token that were cut could not be told from another.
    pub fn fill(&self, event: &Event) -> Result<Subject, SubjectTooLong> {
        let mut subject = String::with_capacity(64);
        for token in &self.tokens {
            if !subject.is_empty() {
                subject.push('.');
            }
            match token {
                Token::Literal(literal) => subject.push_str(literal),
                Token::Field(field) => match field.value(event) {
                    serde_json::Value::String(text) => push_token(&mut subject, &text),
                    serde_json::Value::Null => push_token(&mut subject, ""),
                    other => push_token(&mut subject, &other.to_string()),
                },
            }
        }
        bounded(subject)
    }
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, token) in self.tokens.iter().enumerate() {
            f.write_str(if at > 0 { "." } else { "" })?;
            match token {
                Token::Literal(literal) => f.write_str(literal)?,
                Token::Field(field) => write!(f, "${{{field}}}")?,
            }
        }
        Ok(())
    }
}

impl Default for SubjectTemplate {
    fn default() -> Self {
        use crate::field::Known;
        let literal = |token: &str| Token::Literal(token.to_owned());
        Self {
            prefix: "upcall.uploads.".to_owned(),
            tokens: vec![
                literal("upcall"),
                literal("uploads"),
                Token::Field(Field::Known(Known::Bucket)),
                Token::Field(Field::Known(Known::Operation)),
            ],
        }
    }
}

impl FromStr for SubjectTemplate {
    type Err = InvalidSubjectTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidSubjectTemplate> {
        let tokens = split_outside_braces(text)
            .map(|token| parse_token(token, text))
            .collect::<Result<Vec<_>, InvalidSubjectTemplate>>()?;
        let literals: Vec<&str> = tokens
            .iter()
            .map_while(|token| match token {
                Token::Literal(literal) => Some(literal.as_str()),
                Token::Field(_) => None,
            })
            .collect();
        let mut prefix = literals.join(".");
        if literals.is_empty() {
            return Err(InvalidSubjectTemplate::NoPrefix(text.to_owned()));
        }
        if literals.len() < tokens.len() {
            prefix.push('.');
        }
        Ok(Self { prefix, tokens })
    }
}

/// Splits at the dots between tokens; those inside `${…}` belong to a name.
fn split_outside_braces(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |character| {
        match character {
            '{' => inside = true,
            '}' => inside = false,
            _ => {}
        }
        character == '.' && !inside
    })
}

fn parse_token(token: &str, text: &str) -> Result<Token, InvalidSubjectTemplate> {
    let template: Template = token.parse()?;
    match template.parts() {
        [Part::Field(field)] => Ok(Token::Field(field.clone())),
        [Part::Literal(literal)] if literal.bytes().all(is_plain) => Ok(Token::Literal(literal.clone())),
        _ => Err(InvalidSubjectTemplate::Token { token: token.to_owned(), text: text.to_owned() }),
    }
}

/// Selects subjects: `upcall.uploads.examplebucket.>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubjectFilter(String);

/// Text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no subject filter: it takes tokens between dots, where `*` stands for one token and a final `>` for one or more"
)]
pub struct InvalidFilter(String);

impl SubjectFilter {
    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether the filter selects a subject.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        let mut tokens = subject.as_str().split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(token)) if literal == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl Default for SubjectFilter {
    /// Selects every subject.
    fn default() -> Self {
        Self(">".to_owned())
    }
}

impl fmt::Display for SubjectFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SubjectFilter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> Result<Self, InvalidFilter> {
        let tokens: Vec<&str> = text.split('.').collect();
        let valid = tokens.iter().enumerate().all(|(at, token)| match *token {
            ">" => at + 1 == tokens.len(),
            "*" => true,
            literal => literal.parse::<Subject>().is_ok(),
        });
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidFilter(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::tests::example;

    proptest! {
        #[test]
        fn any_text_survives_its_token(text in any::<String>()) {
            let token = escape_token(&text);
            prop_assert_eq!(unescape_token(&token), Some(text));
            prop_assert!(token.parse::<Subject>().is_ok_and(|subject| !subject.as_str().contains('.')));
        }

        #[test]
        fn different_texts_have_different_tokens(a in "[_%5F.]{0,4}", b in "[_%5F.]{0,4}") {
            prop_assert_eq!(a == b, escape_token(&a) == escape_token(&b));
        }

        #[test]
        fn a_token_reads_back_only_if_it_was_escaped(token in "[a%_5Fc3.]{0,6}") {
            if let Some(text) = unescape_token(&token) {
                prop_assert_eq!(escape_token(&text), token);
            }
        }

        #[test]
        fn no_key_leaves_the_prefix(object in any::<String>(), operation in proptest::option::of(any::<String>())) {
            let mut event = example();
            event.data.object = object;
            event.data.operation = operation;
            let template: SubjectTemplate = "a.b.${object}.${operation}".parse().unwrap();
            let subject = template.fill(&event).unwrap();
            prop_assert!(subject.as_str().parse::<Subject>().is_ok(), "{}", subject);
            prop_assert!("a.b.*.*".parse::<SubjectFilter>().unwrap().matches(&subject), "{}", subject);
        }
    }

    #[test]
    fn the_default_is_what_its_text_says() {
        let template = SubjectTemplate::DEFAULT.parse::<SubjectTemplate>().unwrap();
        assert_eq!(template, SubjectTemplate::default());
        assert_eq!(template.fill(&example()).unwrap().as_str(), "upcall.uploads.examplebucket.PutObject");
        let mut event = example();
        event.data.operation = None;
        event.data.bucket = "a.b".into();
        assert_eq!(template.fill(&event).unwrap().as_str(), "upcall.uploads.a%2Eb._");
    }

    #[test]
    fn the_longest_object_key_makes_a_subject_and_two_of_them_do_not() {
        let mut event = example();
        // OSS takes keys of up to 1,023 bytes; each of these is escaped.
        event.data.object = "中".repeat(341);
        event.data.operation = Some(event.data.object.clone());
        let fill = |template: &str| template.parse::<SubjectTemplate>().unwrap().fill(&event);
        assert!(fill("upcall.uploads.${bucket}.${object}").is_ok());
        assert_eq!(fill("a.${object}.${operation}"), Err(SubjectTooLong { bytes: 2 + 2 * 3 * 1023 + 1 }));
        assert!(matches!("a".repeat(SUBJECT_BYTES_MAX + 1).parse::<Subject>(), Err(InvalidSubject::TooLong(_))));
    }

    #[test]
    fn a_template_may_match_a_filter_unless_a_token_forbids_it() {
        let template: SubjectTemplate = "uploads.${bucket}.${operation}".parse().unwrap();
        let buckets: BTreeSet<String> = ["a.b".to_owned()].into();
        let values = |field: &Field| (field.to_string() == "bucket").then_some(&buckets);
        let may = |filter: &str| template.may_match(&filter.parse().unwrap(), values);
        for filter in [">", "uploads.>", "uploads.a%2Eb.>", "uploads.a%2Eb.PutObject", "*.*.*", "uploads.*.x"] {
            assert!(may(filter), "{filter}");
        }
        for filter in ["uploads", "uploads.a.>", "other.>", "uploads.*", "*.*.*.>", "uploads.a%2Eb.x.y"] {
            assert!(!may(filter), "{filter}");
        }
    }

    #[test]
    fn names_with_dots_are_one_token() {
        let template: SubjectTemplate = "uploads.${vars.user}.x.${image.format}".parse().unwrap();
        assert_eq!(template.prefix(), "uploads.");
        assert_eq!(template.fill(&example()).unwrap().as_str(), "uploads.42.x.jpg");
    }

    #[test]
    fn subject_templates_that_could_go_astray_are_refused() {
        for wrong in [
            "",
            "${bucket}",
            "${bucket}.x",
            "a..b",
            "a.",
            ".a",
            "a.*",
            "a.>",
            "a.b c",
            "a.x${bucket}",
            "a.${nope}",
            "a.${",
        ] {
            assert!(wrong.parse::<SubjectTemplate>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn filters_match_as_in_nats() {
        let matches =
            |filter: &str, subject: &str| filter.parse::<SubjectFilter>().unwrap().matches(&subject.parse().unwrap());
        assert!(matches(">", "a") && matches(">", "a.b.c"));
        assert!(matches("a.>", "a.b") && matches("a.>", "a.b.c") && !matches("a.>", "a"));
        assert!(matches("a.*.c", "a.b.c") && !matches("a.*", "a.b.c") && !matches("*", "a.b"));
        assert!(matches("a.b", "a.b") && !matches("a.b", "a.c") && !matches("a.b", "a"));
        for wrong in ["", "a..b", ">.a", "a.b*", "a b", "a.>.b"] {
            assert!(wrong.parse::<SubjectFilter>().is_err(), "{wrong:?} was taken");
        }
    }
}
