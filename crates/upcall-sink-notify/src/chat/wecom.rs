//! WeCom's group robots.
//!
//! The message is plain text. Its Markdown has no escapes and knows a mention (`<@name>`), so it is not used.
//! <https://developer.work.weixin.qq.com/document/path/91770>

use serde_json::{Value, json};
use upcall_egress::{Rate, Response};

use super::{MINUTE, defused, rate};
use crate::notice::Notice;
use crate::outcome::{Outcome, THROTTLED_WAIT, json};

pub(super) const NAME: &str = "WeCom";

/// Twenty in a minute for each robot. <https://developer.work.weixin.qq.com/document/path/91770>
pub(super) const RATES: &[Rate] = &[rate(20, MINUTE)];

/// The longest text. <https://developer.work.weixin.qq.com/document/path/91770>
const CONTENT_BYTES_MAX: usize = 2048;

pub(super) fn body(notice: &Notice) -> Option<Value> {
    let content = defused(&notice.plain(), &["@"]);
    (content.len() <= CONTENT_BYTES_MAX).then(|| json!({ "msgtype": "text", "text": { "content": content } }))
}

/// Its answers are 200, with a code. <https://developer.work.weixin.qq.com/document/path/90313>
pub(super) fn judge(response: &Response) -> Outcome {
    let Some(code) = json(response)["errcode"].as_i64() else {
        return match Outcome::of_status(NAME, response) {
            Outcome::Sent => Outcome::failed(NAME, response),
            outcome => outcome,
        };
    };
    match code {
        0 => Outcome::Sent,
        // Too many in a minute; too many at once.
        45_009 | 45_033 => Outcome::throttled(THROTTLED_WAIT, NAME, response),
        // The key is wrong, or the robot gone.
        93_000 | 93_004 | 93_008 | 93_017 => Outcome::down(NAME, response),
        // A form that it does not take; no text; too long.
        40_008 | 40_035 | 40_058 | 44_004 | 45_002 | 47_001 => Outcome::refused(NAME, response),
        _ => Outcome::failed(NAME, response),
    }
}
