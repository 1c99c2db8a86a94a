//! Discord's webhooks.
//!
//! The message is an embed, where no mention is heard, and `allowed_mentions` allows none besides. Markdown is escaped.
//! <https://docs.discord.com/developers/resources/webhook#execute-webhook>

use std::time::Duration;

use serde_json::{Value, json};
use upcall_egress::{Rate, Response};

use super::markdown::LessThan;
use super::{markdown, rate};
use crate::notice::Notice;
use crate::outcome::{ASKED_MAX, Outcome, THROTTLED_WAIT, asked, json};

pub(super) const NAME: &str = "Discord";

/// Five in two seconds for each webhook, as the headers of its answers say; those hold where they say less.
/// <https://docs.discord.com/developers/topics/rate-limits>
pub(super) const RATES: &[Rate] = &[rate(5, Duration::from_secs(2))];

/// The longest title and description. <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>
const TITLE_UNITS_MAX: usize = 256;
const DESCRIPTION_UNITS_MAX: usize = 4096;

pub(super) fn body(notice: &Notice) -> Option<Value> {
    let title = markdown::escaped(&notice.title.line(), LessThan::Escaped);
    let description = markdown::lines(notice, "\n", LessThan::Escaped);
    let units = |text: &str| text.encode_utf16().count();
    if units(&title) > TITLE_UNITS_MAX || units(&description) > DESCRIPTION_UNITS_MAX {
        return None;
    }
    let mut embed = json!({ "title": title, "description": description });
    if let Some(link) = &notice.link {
        embed["url"] = json!(link);
    }
    Some(json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } }))
}

pub(super) fn judge(response: &Response) -> Outcome {
    match Outcome::of_status(NAME, response) {
        Outcome::Throttled { .. } => {
            let wait = json(response)["retry_after"].as_f64().and_then(seconds).or_else(|| asked(response));
            Outcome::throttled(wait.unwrap_or(THROTTLED_WAIT), NAME, response)
        }
        outcome => outcome,
    }
}

/// How long to wait where this message was the last that the rate allowed.
pub(super) fn pause(response: &Response) -> Option<Duration> {
    let number = |name: &str| response.headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let is_last = number("x-ratelimit-remaining")? < 1.0;
    is_last.then(|| number("x-ratelimit-reset-after").and_then(seconds)).flatten()
}

fn seconds(number: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(number.min(ASKED_MAX.as_secs_f64())).ok()
}
