//! `[[consumer]] notify`: people who are told.

mod mail;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use http::HeaderMap;
use toml::Value;
use upcall_egress::{ClientOptions, Endpoint, Rate, header};
use upcall_event::Template;
use upcall_sink_notify::{ANSWER_TIMEOUT, Chat, ChatKind, Digest, JsonPost, LinkTemplate, Message, Options, Service};

use super::webhook::{read_client, read_endpoint};
use crate::config::consumer::{Given, parse};
use crate::config::reader::Section;
use crate::config::response::template;
use crate::config::secret;
use crate::config::setting::{Count, Json, Setting};

/// The longest that events may be gathered: a consumer holds them meanwhile.
const WINDOW_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What a batch may take beside its messages and its waits.
const MARGIN: Duration = Duration::from_secs(5);
/// What is left of a batch's time when its last message has to be through.
const SETTLING: Duration = Duration::from_secs(1);

impl Setting for Template {
    const KIND: &'static str = "a string, in which `${NAME}` is filled in";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

impl Setting for LinkTemplate {
    const KIND: &'static str = "a URL, in which `${NAME}` is filled in";

    fn read(value: &Value) -> Result<Self, String> {
        parse(value, Self::KIND)
    }
}

/// Reads `notify`. `None` where mistakes leave no sink; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Options> {
    let found = read_services(&mut section);
    let is_json = matches!(found.as_slice(), [Some((Service::Json(_), _))]);
    for key in ["title", "message", "link", "digest"].into_iter().filter(|key| is_json && section.has(key)) {
        section.mistake(key, "has no meaning beside `json`: its `body` says everything, of one event");
    }
    let message = Message {
        title: section.optional(
            "title",
            "The title, and a mail's subject. By default `New upload in ${bucket}`. It, `message` and `link` are of one upload; \
             several that a `digest` tells together have a title and a list of their own.",
        ),
        text: section.optional(
            "message",
            "What stands under the title: plain text, whatever the service. By default what is known about the upload. In \
             title and message `${size}` has a unit, and `${event.time}` no fractions.",
        ),
        link: section.optional(
            "link",
            "Where the message leads to, such as `https://cdn.example.com/${object}`. Values are percent-encoded, but for \
             the slash.",
        ),
    };
    let digest = section.optional_section(
        "digest",
        "Tells what comes within a time in one message: how many uploads there were, and which. A single one is told as \
         without it.",
    );
    let digest = digest.map(read_digest);
    let rate: Option<Rate> = section.optional(
        "rate",
        "The most messages in a time; the next ones wait. What the service imposes is kept in any case.",
    );
    let (service, client) = match <[_; 1]>::try_from(found) {
        Ok([one]) => one?,
        // That table is a mistake of its own, and most likely who is meant.
        Err(others) if others.is_empty() && section.has_unknown_table() => return None,
        Err(others) => {
            section.mistake_here(if others.is_empty() {
                "names nobody to tell: add `slack = { url = { env = \"SLACK_URL\" } }`, or `teams`, `discord`, `dingtalk`, \
                 `feishu`, `wecom`, `mail` or `json`"
            } else {
                "names several services: give each a consumer of its own, since each goes at its own pace"
            });
            return None;
        }
    };
    let rates = service.rates().into_iter().chain(rate).collect();
    Some(Options { service, message, digest, rates, client, patience: Duration::ZERO })
}

type Found = Option<(Service, ClientOptions)>;

/// Reads every service that is named, so that every mistake is reported.
fn read_services(section: &mut Section<'_>) -> Vec<Found> {
    let slack = section.optional_section("slack", "Slack, by an incoming webhook.");
    let slack = slack.map(|slack| read_chat(slack, |_| Some(ChatKind::Slack)));
    let teams = section.optional_section("teams", "Microsoft Teams, by a webhook of Workflows.");
    let teams = teams.map(|teams| read_chat(teams, |_| Some(ChatKind::Teams)));
    let discord = section.optional_section("discord", "Discord, by a webhook.");
    let discord = discord.map(|discord| read_chat(discord, |_| Some(ChatKind::Discord)));
    let dingtalk = section.optional_section("dingtalk", "DingTalk, by a custom robot.");
    let dingtalk = dingtalk.map(|dingtalk| {
        read_chat(dingtalk, |section| read_secret(section).map(|secret| ChatKind::DingTalk { secret }))
    });
    let feishu = section.optional_section("feishu", "Feishu or Lark, by a custom bot.");
    let feishu = feishu
        .map(|feishu| read_chat(feishu, |section| read_secret(section).map(|secret| ChatKind::Feishu { secret })));
    let wecom = section.optional_section("wecom", "WeCom, by a group robot.");
    let wecom = wecom.map(|wecom| read_chat(wecom, |_| Some(ChatKind::WeCom)));
    let mail = section.optional_section("mail", "Mail, by an SMTP server.");
    let mail = mail.map(|mail| Some((Service::Mail(mail::read(mail)?), ClientOptions::default())));
    let json = section.optional_section("json", "JSON of your own, posted to whoever relays it further.");
    let json = json.map(read_json);
    [slack, teams, discord, dingtalk, feishu, wecom, mail, json].into_iter().flatten().collect()
}

fn read_chat(mut section: Section<'_>, kind: impl Fn(&mut Section<'_>) -> Option<ChatKind>) -> Found {
    let (endpoint, client) = read_target(&mut section);
    let kind = kind(&mut section);
    Some((Service::Chat(Chat { kind: kind?, endpoint: endpoint? }), client))
}

/// `None` where a secret is given and can't be read.
fn read_secret(section: &mut Section<'_>) -> Option<Option<String>> {
    let is_given = section.has("secret");
    let secret = secret::optional(
        section,
        "secret",
        "What messages are signed with, where the robot asks for it. May be `{ env = \"NAME\" }` or `{ file = \"PATH\" }`.",
    );
    let secret = secret.map(|secret| secret.trim().to_owned()).filter(|secret| !secret.is_empty());
    (secret.is_some() || !is_given).then_some(secret)
}

fn read_json(mut section: Section<'_>) -> Found {
    let (endpoint, client) = read_target(&mut section);
    let body: Option<Json> = section.required(
        "body",
        "What is posted: any JSON, in which `${NAME}` is filled in as a JSON value, as in `response`.",
    );
    let body = body.and_then(|Json(body)| template(&section, "body", &body));
    let texts = secret::table(
        &mut section,
        "headers",
        "Headers that go with it, such as `{ Authorization = { env = \"NAME\" } }`. Each may be such a table, or a string.",
    );
    let mut headers = HeaderMap::new();
    for (place, name, text) in texts {
        match header(&name, &text) {
            Ok((name, value)) => drop(headers.insert(name, value)),
            Err(error) => section.mistake(&place, error.to_string()),
        }
    }
    Some((Service::Json(Box::new(JsonPost { endpoint: endpoint?, body: body?, headers })), client))
}

fn read_target(section: &mut Section<'_>) -> (Option<Endpoint>, ClientOptions) {
    let endpoint = read_endpoint(section);
    let client = read_client(section, endpoint.as_ref());
    (endpoint, client)
}

fn read_digest(mut section: Section<'_>) -> Digest {
    let window: Duration = section.or(
        "window",
        "1m",
        "How long events are gathered, from the first one on. A message goes out earlier with `batch_max` events.",
    );
    if window.is_zero() || window > WINDOW_MAX {
        section.mistake("window", "is no time to gather in: choose more than 0, and at most 1d");
    }
    let list: Count = section.or("list", 10, "How many objects are listed by name.");
    Digest { window, list: NonZeroUsize::new(list.as_usize()).unwrap_or(NonZeroUsize::MIN) }
}

/// Makes the consumer go with the service where nothing else was given, and reports what does not.
pub(super) fn fit(options: &mut Options, section: &Section<'_>, given: Given, consumer: &mut upcall_consumer::Options) {
    if !given.concurrency {
        consumer.concurrency = NonZeroUsize::MIN;
    }
    match options.digest {
        Some(digest) => consumer.linger = digest.window,
        // Each message settles its event: what follows is no reason to tell it again.
        None if !given.batch_max => consumer.batch_max = NonZeroUsize::MIN,
        None => {}
    }
    let needed = time_for_a_batch(options, consumer);
    if !given.deliver_timeout {
        consumer.deliver_timeout =
            consumer.deliver_timeout.max(needed.saturating_add(time_for_an_answer(&options.service)));
    } else if consumer.deliver_timeout < needed {
        section.mistake(
            "deliver_timeout",
            format!(
                "is below the {} that a batch may take with the waits that the service's rate asks for: raise it, or leave \
                 it out",
                humantime::format_duration(needed)
            ),
        );
    }
    options.patience = consumer.deliver_timeout.saturating_sub(SETTLING);
}

/// What a batch takes at most: its messages, and the waits for the rates, which all batches share.
fn time_for_a_batch(options: &Options, consumer: &upcall_consumer::Options) -> Duration {
    // A digest is sent once more where it is refused, without its list.
    let messages = if options.digest.is_some() { 2 } else { consumer.batch_max.get() };
    let times = |messages: usize, at_once: usize| u32::try_from(messages.div_ceil(at_once)).unwrap_or(u32::MAX);
    let timeout = match &options.service {
        Service::Mail(mail) => mail.timeout,
        Service::Chat(_) | Service::Json(_) => options.client.timeout,
    };
    let under_way = messages.saturating_mul(consumer.concurrency.get());
    let wait = |rate: &Rate| rate.period.saturating_mul(times(under_way, NonZeroU32::get(rate.count) as usize));
    let waits = options.rates.iter().map(wait).max().unwrap_or_default();
    timeout.saturating_mul(times(messages, 1)).saturating_add(waits).saturating_add(MARGIN)
}

/// How long a message that has arrived may be thought about, beside the time that is its own.
fn time_for_an_answer(service: &Service) -> Duration {
    match service {
        Service::Mail(_) => ANSWER_TIMEOUT,
        Service::Chat(_) | Service::Json(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests;
