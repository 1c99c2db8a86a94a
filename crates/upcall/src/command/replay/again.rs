//! What becomes of an event that a consumer has had already.

use std::path::Path;

use anyhow::bail;
use upcall_bus::ConsumerName;

use crate::config::sink_of;
use crate::terminal;

/// What a consumer's sink makes of an event that it has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Nothing: it goes by the event's id.
    Nothing,
    /// The same once more, which is this.
    Repeats(&'static str),
    /// Nobody has said what sink it is.
    Unknown,
}

impl Again {
    /// By the configuration, if there is one that has the consumer.
    pub(super) fn of(consumer: &ConsumerName, config: Option<&Path>) -> Self {
        // Whatever is wrong with the file: the bus in it could be read, and a replay needs no more.
        let sink = config.and_then(|file| sink_of(file, consumer.as_str()).ok().flatten());
        match sink {
            Some("sql") => Self::Nothing,
            Some("webhook") => Self::Repeats("its endpoint gets again what it has had, under the same webhook-id"),
            Some("notify") => Self::Repeats("people are told again what they have been told"),
            Some("command") => Self::Repeats("its program runs again for what it has had"),
            _ => Self::Unknown,
        }
    }

    /// Whether to go on. Asks, or refuses where nobody can be asked.
    pub(super) fn may_go_on(self, consumer: &ConsumerName, yes: bool) -> anyhow::Result<bool> {
        let Self::Repeats(what) = self else { return Ok(true) };
        eprintln!("The sink of {consumer} does not go by an event's id: {what}.");
        match (yes, terminal::can_ask()) {
            (true, _) => Ok(true),
            (false, true) => terminal::asked("Go on?"),
            (false, false) => {
                bail!("nobody can be asked whether that is meant: add --yes; --dry-run says how many events it is")
            }
        }
    }

    /// What can't be taken back, and whether it need be.
    pub(super) fn to_undo(self) -> &'static str {
        match self {
            Self::Nothing => "There is nothing to undo: an event that was applied already changes nothing.",
            Self::Repeats(_) => "What is given can't be taken back.",
            Self::Unknown => {
                "An event that was applied already changes nothing in a sink that goes by its id, as the SQL sink does. \
                 Webhooks, mail, chats and programs get it once more."
            }
        }
    }
}
