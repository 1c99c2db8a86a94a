//! Slack's incoming webhooks.
//!
//! The message is rich text: its pieces are text by themselves, where nothing is markup or a mention. Only the one line
//! for notifications is in Slack's own markup, mrkdwn, whose three control characters are escaped.
//! <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>,
//! <https://docs.slack.dev/reference/block-kit/blocks/rich-text-block>

use serde_json::{Value, json};
use upcall_egress::Rate;

use super::{SECOND, cut, lines, rate};
use crate::notice::Notice;

/// One message per second and webhook. <https://docs.slack.dev/apis/web-api/rate-limits>
pub(super) const RATES: &[Rate] = &[rate(1, SECOND)];

/// The longest header. <https://docs.slack.dev/reference/block-kit/blocks/header-block>
const HEADER_CHARS_MAX: usize = 150;
/// The longest text of a block's object; taken for all of the message. <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>
const TEXT_CHARS_MAX: usize = 3000;

pub(super) fn body(notice: &Notice) -> Option<Value> {
    let title = notice.title.line();
    let mut elements = Vec::new();
    for line in lines(notice) {
        if !elements.is_empty() {
            elements.push(json!({ "type": "text", "text": "\n" }));
        }
        for run in line.into_iter().filter(|run| !run.text.is_empty()) {
            let mut element = json!({ "type": "text", "text": run.text });
            if run.is_bold {
                element["style"] = json!({ "bold": true });
            }
            elements.push(element);
        }
    }
    if let Some(link) = &notice.link {
        elements.push(json!({ "type": "text", "text": "\n" }));
        elements.push(json!({ "type": "link", "url": link, "text": "Open" }));
    }
    let chars: usize =
        elements.iter().filter_map(|element| element["text"].as_str()).map(|text| text.chars().count()).sum();
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": cut(&title, HEADER_CHARS_MAX), "emoji": false },
    })];
    if !elements.is_empty() {
        blocks
            .push(json!({ "type": "rich_text", "elements": [{ "type": "rich_text_section", "elements": elements }] }));
    }
    let body = json!({ "text": escaped(&title), "blocks": blocks, "unfurl_links": false, "unfurl_media": false });
    (chars <= TEXT_CHARS_MAX).then_some(body)
}

/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
