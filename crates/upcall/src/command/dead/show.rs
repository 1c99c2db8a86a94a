//! Dead letters for people and for programs.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::{Value, json};
use upcall_bus::{DeadLetter, Letter, UnreadableLetter};

use super::super::kept::{Kept, Listing, Style};
use super::super::operated::Operated;
use super::select::Selection;
use crate::terminal::{complain, printable_json};
use crate::words::plural;

/// Prints what was selected.
pub(super) async fn run(bus: &Operated, selection: &Selection, style: Style) -> anyhow::Result<ExitCode> {
    let mut listing = Listing::new(style);
    let selected = selection.at(Timestamp::now())?;
    let missing = selected.each(&*bus.archive(), |letters| listing.show(&letters)).await?;
    if let (true, Some(consumer)) = (listing.is_empty(), selection.consumer()) {
        // It may have been removed since, or be spelt otherwise: that is told, and is no failure.
        if let Err(unknown) = bus.filters_of(consumer).await {
            complain(&unknown);
        }
    }
    Ok(listing.end::<Letter>(&missing, selection.demand().is_ok()))
}

impl Kept for Letter {
    const NOUN: &str = "dead letter";
    const HEADINGS: [&str; 6] = ["NUMBER", "CONSUMER", "DIED", "ATTEMPTS", "OBJECT", "REASON"];

    fn row(&self) -> [String; 6] {
        let (attempts, object, reason) = match self {
            Self::Readable(letter) => {
                let data = &letter.stored.event.data;
                (letter.attempts.to_string(), format!("{}/{}", data.bucket, data.object), letter.reason.clone())
            }
            Self::Unreadable(letter) => ("-".to_owned(), "-".to_owned(), format!("can't be read: {}", letter.fault)),
        };
        let died_at = format!("{:.0}", self.died_at());
        [self.number().to_string(), self.consumer().to_owned(), died_at, attempts, object, reason]
    }

    fn whole(&self) -> Vec<String> {
        let mut lines = vec![format!("dead letter {} of consumer {}", self.number(), self.consumer())];
        match self {
            Self::Readable(letter) => {
                let DeadLetter { stored, reason, attempts, died_at, .. } = &**letter;
                let event = serde_json::to_string_pretty(&event_of(letter)).unwrap_or_default();
                lines.extend([
                    format!("  reason    {reason}"),
                    format!("  died at   {died_at}, after {}", plural(*attempts, "attempt")),
                    format!("  stored at {}, as number {} on {}", stored.stored_at, stored.sequence, stored.subject),
                ]);
                lines.extend(printable_json(&event).lines().map(|line| format!("  {line}")));
            }
            Self::Unreadable(UnreadableLetter { fault, reason, died_at, .. }) => lines.extend([
                format!("  can't be read: {fault}"),
                format!("  reason    {}", reason.as_deref().unwrap_or("unknown")),
                format!("  died at   {died_at}"),
            ]),
        }
        lines
    }

    fn to_json(&self) -> String {
        let json = match self {
            Self::Readable(letter) => json!({
                "number": letter.number,
                "consumer": letter.consumer.as_str(),
                "reason": letter.reason,
                "attempts": letter.attempts,
                "died_at": letter.died_at.to_string(),
                "sequence": letter.stored.sequence,
                "stored_at": letter.stored.stored_at.to_string(),
                "subject": letter.stored.subject.as_str(),
                "event": event_of(letter),
            }),
            Self::Unreadable(letter) => json!({
                "number": letter.number,
                "consumer": letter.consumer,
                "reason": letter.reason,
                "died_at": letter.died_at.to_string(),
                "unreadable": letter.fault,
            }),
        };
        json.to_string()
    }
}

fn event_of(letter: &DeadLetter) -> Value {
    serde_json::from_slice(&letter.stored.event.to_structured()).unwrap_or_default()
}
