//! DingTalk's custom robots.
//!
//! The message is Markdown, whose marks are escaped. Nobody is mentioned: that takes a list of its own (`at`).
//! <https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages>

use jiff::Timestamp;
use serde_json::{Value, json};
use upcall_egress::{Endpoint, Rate, Response};

use super::markdown::LessThan;
use super::{MINUTE, hmac, markdown, rate};
use crate::notice::Notice;
use crate::outcome::{Outcome, json};

pub(super) const NAME: &str = "DingTalk";

/// Twenty in a minute for each robot; whoever exceeds it is not heard for ten minutes.
/// <https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages>
pub(super) const RATES: &[Rate] = &[rate(20, MINUTE)];
const EXCEEDED_WAIT: std::time::Duration = MINUTE.saturating_mul(10);

/// 20,000 bytes are documented for all of the message.
const TEXT_BYTES_MAX: usize = 18_000;

pub(super) fn body(notice: &Notice) -> Option<Value> {
    let title = notice.title.line();
    let mut text = format!(
        "#### {}\n\n{}",
        markdown::escaped(&title, LessThan::Entity),
        markdown::lines(notice, "\n\n", LessThan::Entity)
    );
    if let Some(link) = &notice.link {
        text.push_str(&format!("\n\n[Open]({link})"));
    }
    let body =
        json!({ "msgtype": "markdown", "markdown": { "title": title, "text": text }, "at": { "isAtAll": false } });
    (text.len() + title.len() <= TEXT_BYTES_MAX).then_some(body)
}

/// <https://open.dingtalk.com/document/robots/customize-robot-security-settings>
pub(super) fn sign(endpoint: &Endpoint, secret: &str, now: Timestamp) -> Endpoint {
    let timestamp = now.as_millisecond().to_string();
    let sign = hmac(secret.as_bytes(), format!("{timestamp}\n{secret}").as_bytes());
    endpoint.with_query("timestamp", &timestamp).with_query("sign", &sign)
}

/// Its answers are 200, with a code. <https://open.dingtalk.com/document/orgapp/custom-robots-send-group-messages>
pub(super) fn judge(response: &Response) -> Outcome {
    let answer = json(response);
    let Some(code) = answer["errcode"].as_i64() else {
        return match Outcome::of_status(NAME, response) {
            Outcome::Sent => Outcome::failed(NAME, response),
            outcome => outcome,
        };
    };
    let says = |word: &str| answer["errmsg"].as_str().is_some_and(|text| text.contains(word));
    match code {
        0 => Outcome::Sent,
        // Too fast.
        130_101 | 410_100 => Outcome::throttled(EXCEEDED_WAIT, NAME, response),
        // None of the keywords that the robot asks for.
        310_000 if says("keyword") || says("关键词") => Outcome::refused(NAME, response),
        // No such token; sign, time or address wrong; group or robot gone.
        300_005 | 300_001 | 310_000 | 400_013 | 400_101 | 400_102 | 400_106 => Outcome::down(NAME, response),
        // No parameter, unsupported form, content that is not allowed, too long.
        40_035 | 43_004 | 400_105 | 430_101..=430_104 | 460_101 => Outcome::refused(NAME, response),
        _ => Outcome::failed(NAME, response),
    }
}
