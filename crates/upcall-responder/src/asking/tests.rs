use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::template::tests::event;

/// A service that is never asked: its reply is made up.
struct Nobody;

#[async_trait]
impl Service for Nobody {
    async fn ask(&self, _: &Event, _: Duration) -> Result<Reply, AskError> {
        Err(AskErrorKind::Unreachable.into())
    }
}

fn asking(when: When, fallback: Option<serde_json::Value>) -> Asking {
    let fallback = fallback.map(|answer| AnswerTemplate::new(&answer).unwrap());
    Asking { service: Arc::new(Nobody), options: AskingOptions { when, fallback, ..AskingOptions::default() } }
}

fn any_reply() -> impl Strategy<Value = Result<Reply, AskErrorKind>> {
    let answer = prop_oneof![
        any::<Vec<u8>>(),
        any::<String>().prop_map(String::into_bytes),
        any::<Vec<i64>>().prop_map(|numbers| json!(numbers).to_string().into_bytes()),
    ];
    prop_oneof![
        answer.prop_map(|answer| Ok(Reply::Answer(answer.into()))),
        (any::<String>(), any::<Vec<u8>>()).prop_map(|(reason, body)| Ok(Reply::Veto(Veto::new(&reason, body)))),
        prop::sample::select(AskErrorKind::ALL).prop_map(Err),
    ]
}

proptest! {
    #[test]
    fn what_is_answered_is_what_oss_relays_and_a_veto_counts_beforehand_only(
        reply in any_reply(), is_before in any::<bool>(), has_fallback in any::<bool>(),
    ) {
        let when = if is_before { When::Before } else { When::After };
        let asking = asking(when, has_fallback.then(|| json!({ "o": "${object}" })));
        let has_vetoed = matches!(reply, Ok(Reply::Veto(_)));
        let failed = reply.as_ref().err().copied();
        match asking.judge(&event(), reply.map_err(AskError::from)) {
            Verdict::Answer(answer) => prop_assert!(check_answer(&answer).is_ok()),
            Verdict::Vetoed(veto) => {
                prop_assert!(is_before && has_vetoed);
                prop_assert!(!veto.reason().is_empty() && !veto.reason().contains(char::is_control));
            }
            Verdict::Fallback { answer, cause } => {
                prop_assert!(has_fallback && !(is_before && has_vetoed) && check_answer(&answer).is_ok());
                prop_assert!(failed.is_none_or(|kind| kind == cause.kind));
            }
            Verdict::Failed(cause) => {
                prop_assert!(!(has_fallback || is_before && has_vetoed));
                prop_assert!(failed.is_none_or(|kind| kind == cause.kind));
            }
        }
    }
}

#[test]
fn a_fallback_that_oss_would_drop_is_none() {
    let mut event = event();
    event.data.object = "\u{1}".repeat(200_000); // six bytes each, as JSON
    let asking = asking(When::After, Some(json!("${object}")));
    let verdict = asking.judge(&event, Err(AskErrorKind::Timeout.into()));
    assert!(matches!(verdict, Verdict::Failed(cause) if cause.kind == AskErrorKind::Timeout));
}
