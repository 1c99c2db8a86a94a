//! The sink: a message for each event, or one for all of a batch.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use upcall_consumer::{Item, Sink, Source, Verdict};
use upcall_egress::{Admission, Breaker, BreakerOptions, Client, Endpoint, rounded};
use upcall_event::Event;
use upcall_telemetry::error_chain;
use upcall_telemetry::trace;

use crate::mail::Transport;
use crate::notice::{Digest, Message, Notice};
use crate::outcome::{Outcome, busy, said};
use crate::sent::Sent;
use crate::turn::Turn;
use crate::{Chat, JsonPost, Options, OptionsError, Service, chat};

/// When a service is left alone that fails again and again, whichever the message: soon, and not for long, since one event
/// then tries what it is like.
const BREAKER: BreakerOptions = BreakerOptions {
    failures_max: NonZeroU32::new(5).expect("it is not zero"),
    open_min: Duration::from_secs(1),
    open_max: Duration::from_secs(60),
};
/// At how many attempts a digest is told without its list, in case that it is one name that makes it fail.
const LIST_ATTEMPTS_MAX: u32 = 3;
/// The shortest wait once a service says that it is too much, whatever it asks for.
const THROTTLED_WAIT_MIN: Duration = Duration::from_secs(1);

/// Tells people of uploads.
///
/// A service that can't be reached, does not know us, or asks to be left alone for longer than a batch may take, makes the
/// consumer wait, and costs no event an attempt. Whatever else goes wrong counts for the event: the message may have
/// arrived, and it may be this one that the service can't take.
pub struct NotifySink {
    sender: Sender,
    name: &'static str,
    message: Message,
    digest: Option<Digest>,
    patience: Duration,
    turn: Turn,
    breaker: Breaker,
    sent: Sent,
}

enum Sender {
    Mail(Box<Transport>),
    Chat { client: Client, chat: Chat, timeout: Duration },
    Json { client: Client, post: Box<JsonPost>, timeout: Duration },
}

/// One message, and which places of the batch it settles.
struct Telling<'b> {
    events: Vec<&'b Event>,
    places: Vec<usize>,
    /// How often an event of it has been tried, with this time.
    attempt: u32,
}

impl NotifySink {
    /// Makes a sink. Nothing is connected to yet.
    ///
    /// # Errors
    /// If there can be no connections with these options.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let name = options.service.name();
        let (timeout, is_https) = (options.client.timeout, options.service.is_https());
        let sender = match options.service {
            Service::Mail(mail) => Sender::Mail(Box::new(Transport::new(mail)?)),
            Service::Chat(chat) => Sender::Chat { client: Client::new(options.client, is_https)?, chat, timeout },
            Service::Json(post) => Sender::Json { client: Client::new(options.client, is_https)?, post, timeout },
        };
        Ok(Self {
            sender,
            name,
            message: options.message,
            digest: options.digest,
            patience: options.patience,
            turn: Turn::new(&options.rates),
            breaker: Breaker::new(BREAKER),
            sent: Sent::default(),
        })
    }

    /// What is to be told, an event once, and never again what was told lately.
    fn tellings<'b>(&self, batch: &[Item<'b>]) -> Vec<Telling<'b>> {
        let mut places = HashMap::new();
        let mut tellings: Vec<Telling<'b>> = Vec::new();
        for (place, item) in batch.iter().enumerate().filter(|(_, item)| !self.sent.has(&item.event.id)) {
            let at = *places.entry(item.event.id).or_insert_with(|| {
                tellings.push(Telling { events: vec![item.event], places: Vec::new(), attempt: item.attempt });
                tellings.len() - 1
            });
            tellings[at].places.push(place);
        }
        if self.digest.is_some() && tellings.len() > 1 {
            let attempt = tellings.iter().map(|one| one.attempt).max().unwrap_or_default();
            let (events, places): (Vec<_>, Vec<_>) = tellings.into_iter().map(|one| (one.events, one.places)).unzip();
            return vec![Telling { events: events.concat(), places: places.concat(), attempt }];
        }
        tellings
    }

    async fn tell(&self, telling: &Telling<'_>, deadline: Instant) -> Outcome {
        match (telling.events.as_slice(), &self.digest) {
            ([event], _) => self.send(&self.message.one(event), event, deadline).await,
            (events @ [first, ..], Some(digest)) => {
                let notice = digest.many(digest_id(events), events, Timestamp::now());
                if telling.attempt > LIST_ATTEMPTS_MAX {
                    return self.send(&notice.shortened(usize::MAX, 0), first, deadline).await;
                }
                match self.send(&notice, first, deadline).await {
                    // It may be a name in the list that the service does not like.
                    Outcome::Refused { .. } => self.send(&notice.shortened(usize::MAX, 0), first, deadline).await,
                    outcome => outcome,
                }
            }
            _ => Outcome::Sent,
        }
    }

    /// Sends a message when it is its turn. Waits and sends again where the service asks for it and there is time.
    async fn send(&self, notice: &Notice, event: &Event, deadline: Instant) -> Outcome {
        let latest = deadline.checked_sub(self.sender.timeout()).unwrap_or(deadline);
        loop {
            if let Err(wait) = self.turn.wait(latest).await {
                let (after, reason) = (wait.0, format!("{} takes no more messages for now: {wait}", self.name));
                return Outcome::Throttled { after, reason };
            }
            let outcome = self.attempt(notice, event, deadline).await;
            let Outcome::Throttled { after, reason } = &outcome else { return outcome };
            self.turn.hold((*after).max(THROTTLED_WAIT_MIN), reason);
            if Instant::now() + *after >= latest {
                return outcome;
            }
        }
    }

    async fn attempt(&self, notice: &Notice, event: &Event, deadline: Instant) -> Outcome {
        match &self.sender {
            Sender::Mail(transport) => transport.send(notice, deadline).await,
            Sender::Chat { client, chat, .. } => self.post_chat(client, chat, notice).await,
            Sender::Json { client, post, .. } => match post.body.fill(event) {
                Ok(body) => {
                    let mut headers = post.headers.clone();
                    headers.insert("idempotency-key", ascii(&notice.id));
                    self.post(client, &post.endpoint, headers, body, |response| {
                        if let Some(pause) = busy(response) {
                            self.turn.hold(pause, &said(response));
                        }
                        Outcome::of_unknown(self.name, response)
                    })
                    .await
                }
                Err(too_large) => Outcome::Refused { reason: too_large.to_string() },
            },
        }
    }

    async fn post_chat(&self, client: &Client, chat: &Chat, notice: &Notice) -> Outcome {
        match chat::post(chat, notice, Timestamp::now()) {
            Ok(post) => {
                let body = post.body.to_string().into_bytes();
                self.post(client, &post.endpoint, HeaderMap::new(), body, |response| {
                    if let Some(pause) = chat::pause(&chat.kind, response) {
                        self.turn.hold(pause, "it has asked for a pause with its last answer");
                    }
                    chat::judge(&chat.kind, response)
                })
                .await
            }
            Err(too_long) => Outcome::Refused { reason: too_long.to_string() },
        }
    }

    async fn post(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        mut headers: HeaderMap,
        body: Vec<u8>,
        judge: impl Fn(&upcall_egress::Response) -> Outcome,
    ) -> Outcome {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json; charset=utf-8"));
        match client.post(endpoint, headers, Bytes::from(body)).await {
            Ok(response) => judge(&response),
            Err(error) => {
                let reason = format!("{} gave no answer: {}", self.name, error_chain(&error));
                if error.kind.is_unsent() { Outcome::Down { reason } } else { Outcome::Failed { reason } }
            }
        }
    }

    /// Tells it, unless the service is left alone, and says what that comes to for each event; or why it is left alone.
    async fn settle(&self, telling: &Telling<'_>, deadline: Instant) -> Result<Verdict, String> {
        if let Admission::Refused { .. } = self.breaker.admit(Instant::now()) {
            let resting = self.breaker.resting(Instant::now()).map(|resting| resting.to_string());
            return Err(resting.unwrap_or_else(|| format!("another event tries {}", self.name)));
        }
        let outcome = self.tell(telling, deadline).await;
        match &outcome {
            Outcome::Sent | Outcome::Refused { .. } => self.breaker.succeeded(),
            Outcome::Failed { reason } => self.breaker.failed(Instant::now(), reason),
            // The consumer waits, and then tries again.
            Outcome::Down { .. } | Outcome::Throttled { .. } => {}
        }
        self.verdict(telling, outcome)
    }

    /// What the outcome comes to for each event, or why the service is to be left alone.
    fn verdict(&self, telling: &Telling<'_>, outcome: Outcome) -> Result<Verdict, String> {
        match outcome {
            Outcome::Sent => {
                telling.events.iter().for_each(|event| self.sent.add(event.id));
                Ok(Verdict::Done)
            }
            Outcome::Refused { reason } => Ok(Verdict::Dead { reason }),
            Outcome::Failed { reason } => Ok(Verdict::Retry { after: None, reason }),
            Outcome::Down { reason } | Outcome::Throttled { reason, .. } => Err(reason),
        }
    }
}

#[async_trait]
impl Sink for NotifySink {
    async fn prepare(&self) -> Result<(), Source> {
        if let Some((wait, reason)) = self.turn.held(Instant::now()).filter(|(wait, _)| *wait > self.patience / 2) {
            return Err(format!("{reason}; the next message goes out in {}", rounded(wait)).into());
        }
        if let Some(resting) = self.breaker.resting(Instant::now()) {
            return Err(resting.into());
        }
        match &self.sender {
            Sender::Mail(transport) => transport.test().await,
            Sender::Chat { .. } | Sender::Json { .. } => Ok(()),
        }
    }

    async fn deliver(&self, batch: &[Item<'_>]) -> Vec<Verdict> {
        let deadline = Instant::now() + self.patience;
        // Whatever is not told below was told before.
        let mut verdicts = vec![Verdict::Done; batch.len()];
        let mut alone: Option<String> = None;
        let spans: Vec<_> = batch.iter().map(|item| trace::sink(item.span, "notify")).collect();
        let latest = deadline.checked_sub(self.sender.timeout()).unwrap_or(deadline);
        for (place, telling) in self.tellings(batch).iter().enumerate() {
            let verdict = match &alone {
                Some(reason) => Err(reason.clone()),
                None if place > 0 && Instant::now() > latest => {
                    Err(format!("{} is too slow for as many messages as a batch has", self.name))
                }
                None => self.settle(telling, deadline).await,
            };
            let verdict = verdict.unwrap_or_else(|reason| {
                alone = Some(reason.clone());
                Verdict::Unavailable { reason }
            });
            telling.places.iter().for_each(|place| verdicts[*place] = verdict.clone());
        }
        for (span, verdict) in spans.iter().zip(&verdicts) {
            trace::ended(span, "upcall.outcome", verdict.name(), *verdict != Verdict::Done);
        }
        verdicts
    }

    fn fault(&self) -> Option<String> {
        self.breaker.resting(Instant::now()).map(|resting| resting.to_string())
    }

    async fn close(&self) {
        if let Sender::Mail(transport) = &self.sender {
            transport.close().await;
        }
    }
}

impl Sender {
    /// How long one message may take.
    fn timeout(&self) -> Duration {
        match self {
            Self::Mail(transport) => transport.timeout(),
            Self::Chat { timeout, .. } | Self::Json { timeout, .. } => *timeout,
        }
    }
}

/// An id for a message about several events: the same for the same events, in whichever order.
fn digest_id(events: &[&Event]) -> String {
    let mut ids: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    ids.sort_unstable();
    let hash = Sha256::digest(ids.concat());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn ascii(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""))
}
