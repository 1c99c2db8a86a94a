//! Microsoft Teams, by a webhook of Workflows ("When a Teams webhook request is received").
//!
//! The message is an Adaptive Card of text runs, in which Markdown has no meaning; a mention would need an entity. Dates in
//! braces have a meaning in every text.
//! <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>,
//! <https://adaptivecards.io/explorer/TextRun.html>

use serde_json::{Value, json};
use upcall_egress::{Rate, Response};

use super::{SECOND, WORD_JOINER, lines, rate};
use crate::notice::Notice;
use crate::outcome::{Outcome, THROTTLED_WAIT};

pub(super) const NAME: &str = "Microsoft Teams";

/// Four requests in a second. <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>
pub(super) const RATES: &[Rate] = &[rate(4, SECOND)];

/// 28 KB are documented at the same place; what is made of the card on its way counts as well.
const BYTES_MAX: usize = 20_000;

pub(super) fn body(notice: &Notice) -> Option<Value> {
    let block = |inlines: Vec<Value>| json!({ "type": "RichTextBlock", "inlines": inlines, "spacing": "Small" });
    let title =
        json!({ "type": "TextRun", "text": defused(&notice.title.line()), "weight": "Bolder", "size": "Medium" });
    let mut blocks = vec![block(vec![title])];
    for line in lines(notice) {
        let runs = line.into_iter().filter(|run| !run.text.is_empty());
        let inlines: Vec<Value> = runs
            .map(|run| json!({ "type": "TextRun", "text": defused(&run.text), "weight": if run.is_bold { "Bolder" } else { "Default" } }))
            .collect();
        if !inlines.is_empty() {
            blocks.push(block(inlines));
        }
    }
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
        "msteams": { "width": "Full" },
    });
    if let Some(link) = &notice.link {
        card["actions"] = json!([{ "type": "Action.OpenUrl", "title": "Open", "url": link }]);
    }
    let body = json!({
        "type": "message",
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card }],
    });
    (body.to_string().len() <= BYTES_MAX).then_some(body)
}

/// Puts a word joiner between two braces: `{{DATE(…)}}` would be replaced by a date, in any text of a card.
/// <https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features#datetime-formatting-and-localization>
fn defused(text: &str) -> String {
    let mut defused = String::with_capacity(text.len());
    for char in text.chars() {
        if char == '{' && defused.ends_with('{') {
            defused.push(WORD_JOINER);
        }
        defused.push(char);
    }
    defused
}

/// Webhooks of the older kind (connectors) answer 200, and say in words what Teams answered.
pub(super) fn judge(response: &Response) -> Outcome {
    let body = String::from_utf8_lossy(&response.body);
    match Outcome::of_status(NAME, response) {
        Outcome::Sent if body.contains("HTTP error 429") => Outcome::throttled(THROTTLED_WAIT, NAME, response),
        Outcome::Sent if body.contains("HTTP error 413") => Outcome::refused(NAME, response),
        Outcome::Sent if body.contains("Webhook message delivery failed") => Outcome::failed(NAME, response),
        outcome => outcome,
    }
}
