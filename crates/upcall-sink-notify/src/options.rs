//! Whom to tell, and how.

use std::time::Duration;

use http::HeaderMap;
use upcall_egress::{ClientOptions, Endpoint, Rate};
use upcall_responder::AnswerTemplate;

use crate::chat;
use crate::mail::Mail;
use crate::notice::{Digest, Message};

/// Whom to tell, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whom.
    pub service: Service,
    /// What.
    pub message: Message,
    /// Whether the events of one batch are told in one message.
    pub digest: Option<Digest>,
    /// The most messages. Each rate is kept by waiting. [`Service::rates`] has what the service imposes.
    pub rates: Vec<Rate>,
    /// How one message is sent, over HTTP.
    pub client: ClientOptions,
    /// How long a batch may take; what is left over then goes back uncounted. Keep it below the consumer's
    /// `deliver_timeout`.
    pub patience: Duration,
}

/// A way to reach people.
#[derive(Debug, Clone)]
pub enum Service {
    /// A mail.
    Mail(Mail),
    /// A message in a chat.
    Chat(Chat),
    /// JSON of one's own, to whoever relays it.
    Json(Box<JsonPost>),
}

/// Where a chat takes messages.
#[derive(Debug, Clone)]
pub struct Chat {
    /// Which service it is.
    pub kind: ChatKind,
    /// Its webhook.
    pub endpoint: Endpoint,
}

/// A chat service.
#[derive(Clone, PartialEq, Eq)]
pub enum ChatKind {
    /// Slack's incoming webhooks.
    Slack,
    /// Microsoft Teams, by a webhook of Workflows.
    Teams,
    /// Discord's webhooks.
    Discord,
    /// A DingTalk custom robot.
    DingTalk {
        /// What its messages are signed with, where it asks for that.
        secret: Option<String>,
    },
    /// A Feishu (or Lark) custom bot.
    Feishu {
        /// What its messages are signed with, where it asks for that.
        secret: Option<String>,
    },
    /// A WeCom group robot. Its key is in its URL.
    WeCom,
}

/// JSON of one's own.
#[derive(Debug, Clone)]
pub struct JsonPost {
    /// Where it is posted.
    pub endpoint: Endpoint,
    /// What is posted: a template whose values are filled in as JSON.
    pub body: AnswerTemplate,
    /// What goes with it.
    pub headers: HeaderMap,
}

impl Service {
    /// The rates that the service imposes, or that are considerate.
    #[must_use]
    pub fn rates(&self) -> Vec<Rate> {
        match self {
            Self::Mail(_) | Self::Json(_) => Vec::new(),
            Self::Chat(chat) => chat::rates(&chat.kind).to_vec(),
        }
    }

    /// The service's name, for logs and reasons.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mail(_) => "the mail server",
            Self::Chat(chat) => chat::name(&chat.kind),
            Self::Json(_) => "the endpoint",
        }
    }

    pub(crate) fn is_https(&self) -> bool {
        match self {
            Self::Mail(_) => false,
            Self::Chat(chat) => chat.endpoint.is_https(),
            Self::Json(post) => post.endpoint.is_https(),
        }
    }
}

impl std::fmt::Debug for ChatKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(chat::name(self))
    }
}
