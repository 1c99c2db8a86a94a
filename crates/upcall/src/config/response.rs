//! `response` of a `[[route]]`: what the uploader gets, or who is asked for it.

use std::num::NonZeroUsize;
use std::time::Duration;

use toml::Value;
use upcall_event::Subject;
use upcall_responder::{AnswerTemplate, AskingOptions, VetoAnswer, When};
use upcall_responder_http::{Authorization, Options as Http, ServiceUrl};

use super::consumer::parse;
use super::reader::Section;
use super::secret;
use super::setting::{Count, Json, Setting, word};

/// Where a route's answers come from.
#[derive(Debug, Clone)]
pub(crate) enum AnswerBy {
    /// From the configuration and the event.
    Template(AnswerTemplate),
    /// From whoever answers NATS requests on a subject.
    Request { subject: Subject, options: AskingOptions },
    /// From an HTTP service.
    Http { service: Http, options: AskingOptions },
}

impl AnswerBy {
    /// How a service is asked, if one is.
    pub(super) fn options(&self) -> Option<&AskingOptions> {
        match self {
            Self::Template(_) => None,
            Self::Request { options, .. } | Self::Http { options, .. } => Some(options),
        }
    }
}

/// A key of `response` that asks a service, and the key by which a service is told from a literal answer.
const SERVICES: [(&str, &str); 2] = [("request", "subject"), ("http", "url")];

const RESPONSE: &str = "What the uploader gets: any JSON, in which `${NAME}` is filled in. By default \
    `{\"Status\":\"OK\"}`. A table whose only key is the table `request` or `http` asks a service instead: see [responses](../responses.md).";

impl Setting for When {
    const KIND: &'static str = "\"after\" or \"before\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("after", Self::After), ("before", Self::Before)])
    }
}

impl Setting for VetoAnswer {
    const KIND: &'static str = "\"fail\" or \"relay\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("fail", Self::Fail), ("relay", Self::Relay)])
    }
}

impl Setting for Subject {
    const KIND: &'static str = "a subject, such as \"app.avatars.answer\"";

    fn read(value: &Value) -> Result<Self, String> {
        let subject: Self = parse(value, Self::KIND)?;
        match subject.as_str().split_once('.') {
            Some(("upcall", _)) => {
                Err("begins with `upcall.`, whose subjects hold events: their stream would answer in \
                                        the service's place. Choose another"
                    .to_owned())
            }
            _ => Ok(subject),
        }
    }
}

impl Setting for ServiceUrl {
    const KIND: &'static str = "a URL, such as \"http://127.0.0.1:9000/upcall\"";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

/// Reads a route's `response`. `None` where mistakes leave none; they are on record.
pub(super) fn read(route: &mut Section<'_>, budget: Duration) -> Option<AnswerBy> {
    match service_of(route) {
        Some("request") => {
            let mut response = route.table_in_place::<Json>("response", RESPONSE)?;
            let doc = "A NATS request answers, in `response.request`: any service on NATS, its services API included.";
            read_request(response.optional_section("request", doc)?, budget)
        }
        Some(_) => {
            let mut response = route.table_in_place::<Json>("response", RESPONSE)?;
            read_http(response.optional_section("http", "An HTTP service answers, in `response.http`.")?, budget)
        }
        None => {
            let template = match route.optional("response", RESPONSE) {
                None => Some(AnswerTemplate::default()),
                Some(Json(answer)) => template(route, "response", &answer),
            };
            template.map(AnswerBy::Template)
        }
    }
}

/// The key of the service that `response` asks. Reports what is half a service and half a literal answer.
fn service_of(route: &Section<'_>) -> Option<&'static str> {
    let response = route.peek_table("response")?;
    let mut found = None;
    for (key, needed) in SERVICES {
        let Some(Value::Table(service)) = response.get(key) else { continue };
        if response.len() == 1 {
            found = Some(key);
        } else if service.contains_key(needed) {
            let others: Vec<_> =
                response.keys().filter(|other| *other != key).map(|other| format!("`{other}`")).collect();
            route.mistake(
                "response",
                format!(
                    "asks a service by `{key}`, and has {} beside it: move the service's options into `response.{key}`. \
                     An answer that has `{key}.{needed}` literally can't be written here; have a service compute it",
                    others.join(", ")
                ),
            );
        }
    }
    found
}

fn read_request(mut section: Section<'_>, budget: Duration) -> Option<AnswerBy> {
    let subject: Option<Subject> = section.required(
        "subject",
        "The subject of the request, which no stream may capture. (For an answer that has `request` literally, put \
         another key beside it.)",
    );
    let options = read_asking(&mut section, budget)?;
    Some(AnswerBy::Request { subject: subject?, options })
}

fn read_http(mut section: Section<'_>, budget: Duration) -> Option<AnswerBy> {
    let url: Option<ServiceUrl> = section.required(
        "url",
        "Where the service is. The event is posted there as a CloudEvent. (For an answer that has `http` literally, put \
         another key beside it.)",
    );
    let authorization = secret::optional(
        &mut section,
        "authorization",
        "The `authorization` header, by which the service knows who asks, such as `Bearer …`. As every secret it may be \
         `{ env = \"NAME\" }` or `{ file = \"PATH\" }`.",
    );
    let authorization = match authorization.map(|text| text.parse::<Authorization>()) {
        Some(Err(error)) => {
            section.mistake("authorization", error.to_string());
            None
        }
        Some(Ok(authorization)) => Some(authorization),
        None => None,
    };
    let options = read_asking(&mut section, budget)?;
    Some(AnswerBy::Http { service: Http { url: url?, authorization }, options })
}

/// How a service is asked, whatever it speaks.
fn read_asking(section: &mut Section<'_>, budget: Duration) -> Option<AskingOptions> {
    let defaults = AskingOptions::default();
    let when = section.or(
        "when",
        "after",
        "`after`: the service is asked once the event is durable. `before`: it is asked first and may veto: then there \
         is no event.",
    );
    let has_timeout = section.has("timeout");
    let timeout: Duration = section.or(
        "timeout",
        "1500ms",
        "How long the service may take, within what the callback has left. With `before`, half a second is kept for \
         publishing.",
    );
    if timeout.is_zero() || (has_timeout && timeout > budget) {
        section.mistake("timeout", "is no time that a callback has: choose more than 0 and at most `gateway.deadline`");
    }
    let fallback: Option<Json> = section.optional(
        "fallback",
        "What is answered where the service is missing, slow or wrong: a template, as `response` may be. With `before` \
         the event is then published unasked. Without it the callback fails, and with `before` there is no event.",
    );
    // Read on behind a mistake, so that the keys that follow are not taken for unknown ones.
    let fallback = fallback.map(|Json(answer)| template(section, "fallback", &answer));
    let has_veto = section.has("veto");
    let veto = section.or(
        "veto",
        "fail",
        "What the uploader sees of a veto. `fail`: a failed callback, without the reason, which OSS does not relay. \
         `relay`: status 200 with the service's own JSON, though there is no event: the client must look into it.",
    );
    if has_veto && when == When::After {
        section.mistake(
            "veto",
            "has no meaning with `when = \"after\"`: the event is durable before the service is asked",
        );
    }
    let concurrency: Count = section.or(
        "concurrency",
        i64::try_from(defaults.concurrency.get()).unwrap_or(i64::MAX),
        "How many questions may wait for the service at once. One more counts as failed, at once, so that a service that \
         hangs takes nothing else down.",
    );
    let concurrency = NonZeroUsize::new(concurrency.as_usize())?;
    let fallback = match fallback {
        None => None,
        Some(template) => Some(template?),
    };
    Some(AskingOptions { when, timeout, fallback, veto, concurrency })
}

/// Compiles a JSON value whose strings may hold `${NAME}`. Every mistake in it is on record.
pub(super) fn template(section: &Section<'_>, key: &str, answer: &serde_json::Value) -> Option<AnswerTemplate> {
    let mistakes = match AnswerTemplate::new(answer) {
        Ok(template) => return Some(template),
        Err(mistakes) => mistakes,
    };
    for mistake in mistakes {
        let path = if mistake.path.is_empty() { key.to_owned() } else { format!("{key}.{}", mistake.path) };
        section.mistake(&path, mistake.cause.to_string());
    }
    None
}

#[cfg(test)]
mod tests;
