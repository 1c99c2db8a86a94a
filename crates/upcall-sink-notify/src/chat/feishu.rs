//! Feishu's, and Lark's, custom bots.
//!
//! The message is a post: pieces of text and a link, where Markdown has no meaning and a mention is a piece of its own.
//! <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>

use jiff::Timestamp;
use serde_json::{Value, json};
use upcall_egress::{Rate, Response};

use super::{MINUTE, SECOND, defused, hmac, lines, rate};
use crate::notice::Notice;
use crate::outcome::{Outcome, THROTTLED_WAIT, asked, json};

pub(super) const NAME: &str = "Feishu";

/// 100 in a minute and 5 in a second for each bot. <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>
pub(super) const RATES: &[Rate] = &[rate(5, SECOND), rate(100, MINUTE)];

/// 20 KB are documented for all of the message, which is longer once it is signed.
const BYTES_MAX: usize = 18_000;

pub(super) fn body(notice: &Notice) -> Option<Value> {
    // In a message of the form `text` this would be a mention; here it is none, and does not look like one.
    let defused = |text: &str| defused(text, &["at", "/at"]);
    let mut paragraphs = Vec::new();
    for line in lines(notice) {
        let runs = line.iter().filter(|run| !run.text.is_empty());
        paragraphs
            .push(json!(runs.map(|run| json!({ "tag": "text", "text": defused(&run.text) })).collect::<Vec<_>>()));
    }
    if let Some(link) = &notice.link {
        paragraphs.push(json!([{ "tag": "a", "text": "Open", "href": link }]));
    }
    let post = json!({ "zh_cn": { "title": defused(&notice.title.line()), "content": paragraphs } });
    let body = json!({ "msg_type": "post", "content": { "post": post } });
    (body.to_string().len() <= BYTES_MAX).then_some(body)
}

/// The key is what others would sign, and nothing is signed with it. <https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot>
pub(super) fn sign(body: &mut Value, secret: &str, now: Timestamp) {
    let timestamp = now.as_second().to_string();
    body["sign"] = json!(hmac(format!("{timestamp}\n{secret}").as_bytes(), b""));
    body["timestamp"] = json!(timestamp);
}

/// Its answers have a code, whatever the status.
pub(super) fn judge(response: &Response) -> Outcome {
    let answer = json(response);
    let Some(code) = answer["code"].as_i64().or_else(|| answer["StatusCode"].as_i64()) else {
        return match Outcome::of_status(NAME, response) {
            Outcome::Sent => Outcome::failed(NAME, response),
            outcome => outcome,
        };
    };
    let says = |word: &str| answer["msg"].as_str().is_some_and(|text| text.to_ascii_lowercase().contains(word));
    match code {
        0 => Outcome::Sent,
        // Too many: of this bot, in this chat, of all.
        11_232 | 230_020 | 99_991_400 => Outcome::throttled(asked(response).unwrap_or(THROTTLED_WAIT), NAME, response),
        9_499 if says("too many") || says("frequency") => Outcome::throttled(THROTTLED_WAIT, NAME, response),
        // No such bot; sign or time wrong; address not allowed.
        19_001 | 19_021 | 19_022 => Outcome::down(NAME, response),
        // A form that it does not take; none of the keywords that the bot asks for.
        9_499 | 19_002 | 19_024 => Outcome::refused(NAME, response),
        _ => Outcome::failed(NAME, response),
    }
}
