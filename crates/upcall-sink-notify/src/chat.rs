//! Chat services: the form of their messages, what they are signed with, what their answers mean.

mod dingtalk;
mod discord;
mod feishu;
mod markdown;
mod slack;
mod teams;
mod wecom;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use upcall_egress::{Endpoint, Rate, Response};

use crate::notice::{Line, Notice, more};
use crate::options::{Chat, ChatKind};
use crate::outcome::Outcome;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How far values and lists are cut until a message is as short as its service wants it: characters of a value, objects
/// of a list. The longest key has 1023 bytes, so that the first step cuts none.
const STEPS: [(usize, usize); 6] = [(1024, 100), (256, 50), (128, 20), (64, 10), (32, 5), (12, 2)];

/// What is posted to a chat service.
pub(crate) struct Post {
    pub(crate) endpoint: Endpoint,
    pub(crate) body: Value,
}

/// A message that no cutting makes short enough: the configuration's own text is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message is longer than the service takes, even with all values cut")]
pub(crate) struct TooLong;

/// Puts a notice in the service's form.
pub(crate) fn post(chat: &Chat, notice: &Notice, now: Timestamp) -> Result<Post, TooLong> {
    let endpoint = chat.endpoint.clone();
    Ok(match &chat.kind {
        ChatKind::Slack => Post { endpoint, body: fit(notice, slack::body)? },
        ChatKind::Teams => Post { endpoint, body: fit(notice, teams::body)? },
        ChatKind::Discord => Post { endpoint, body: fit(notice, discord::body)? },
        ChatKind::DingTalk { secret } => {
            let endpoint = secret.as_ref().map(|secret| dingtalk::sign(&endpoint, secret, now)).unwrap_or(endpoint);
            Post { endpoint, body: fit(notice, dingtalk::body)? }
        }
        ChatKind::Feishu { secret } => {
            let mut body = fit(notice, feishu::body)?;
            if let Some(secret) = secret {
                feishu::sign(&mut body, secret, now);
            }
            Post { endpoint, body }
        }
        ChatKind::WeCom => Post { endpoint, body: fit(notice, wecom::body)? },
    })
}

/// What the service's answer means.
pub(crate) fn judge(kind: &ChatKind, response: &Response) -> Outcome {
    match kind {
        ChatKind::Slack => Outcome::of_status(name(kind), response),
        ChatKind::Teams => teams::judge(response),
        ChatKind::Discord => discord::judge(response),
        ChatKind::DingTalk { .. } => dingtalk::judge(response),
        ChatKind::Feishu { .. } => feishu::judge(response),
        ChatKind::WeCom => wecom::judge(response),
    }
}

/// How long nothing is to be sent although this message was taken.
pub(crate) fn pause(kind: &ChatKind, response: &Response) -> Option<Duration> {
    matches!(kind, ChatKind::Discord).then(|| discord::pause(response)).flatten()
}

/// The rates that the service imposes.
pub(crate) fn rates(kind: &ChatKind) -> &'static [Rate] {
    match kind {
        ChatKind::Slack => slack::RATES,
        ChatKind::Teams => teams::RATES,
        ChatKind::Discord => discord::RATES,
        ChatKind::DingTalk { .. } => dingtalk::RATES,
        ChatKind::Feishu { .. } => feishu::RATES,
        ChatKind::WeCom => wecom::RATES,
    }
}

/// The service's name.
pub(crate) fn name(kind: &ChatKind) -> &'static str {
    match kind {
        ChatKind::Slack => "Slack",
        ChatKind::Teams => teams::NAME,
        ChatKind::Discord => discord::NAME,
        ChatKind::DingTalk { .. } => dingtalk::NAME,
        ChatKind::Feishu { .. } => feishu::NAME,
        ChatKind::WeCom => wecom::NAME,
    }
}

const fn rate(count: u32, period: Duration) -> Rate {
    Rate { count: std::num::NonZeroU32::new(count).expect("it is not zero"), period }
}

/// Cuts values and lists until the form takes them.
fn fit(notice: &Notice, form: impl Fn(&Notice) -> Option<Value>) -> Result<Value, TooLong> {
    STEPS.iter().find_map(|(chars_max, items_max)| form(&notice.shortened(*chars_max, *items_max))).ok_or(TooLong)
}

/// A piece of a line, for services whose messages have a structure in place of markup.
struct Run {
    text: String,
    is_bold: bool,
}

/// A notice's lines in pieces.
fn lines(notice: &Notice) -> Vec<Vec<Run>> {
    let plain = |text: String| vec![Run { text, is_bold: false }];
    let mut lines = Vec::new();
    for line in &notice.lines {
        match line {
            Line::Text(text) => lines.extend(text.plain().lines().map(|line| plain(line.to_owned()))),
            Line::Fact { label, value } => lines.push(vec![
                Run { text: format!("{}: ", label.line()), is_bold: true },
                Run { text: value.line(), is_bold: false },
            ]),
            Line::Item(item) => lines.push(plain(format!("• {}", item.line()))),
            Line::More(count) => lines.push(plain(more(*count))),
        }
    }
    lines
}

/// Cuts text that is not a value's.
fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// What is not seen, and keeps what is around it from being read together.
const WORD_JOINER: char = '\u{2060}';

/// Puts a word joiner behind each `<` that one of these follows, so that it begins no tag and no mention.
fn defused(text: &str, openings: &[&str]) -> String {
    let mut defused = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        defused.push(char);
        let begins =
            |opening: &&str| text[at + 1..].get(..opening.len()).is_some_and(|next| next.eq_ignore_ascii_case(opening));
        if char == '<' && openings.iter().any(begins) {
            defused.push(WORD_JOINER);
        }
    }
    defused
}

/// HMAC with SHA-256, in Base64.
fn hmac(key: &[u8], message: &[u8]) -> String {
    use base64::Engine as _;
    use hmac::Mac as _;
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}
