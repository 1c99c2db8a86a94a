//! A consumer's end of the bus.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::message::Info;
use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::time::sleep;
use tracing::warn;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Delivery, Source, SubscribeError, SubscribeErrorKind, Subscription};
use upcall_event::{Event, Subject};

use crate::NatsBus;
use crate::connection::{Lease, REQUEST_TIME, text};
use crate::names::header;
use crate::publish::read_event;
use crate::session::{Arrived, Key, Lane, Session};
use crate::settle::NatsSettler;

/// How long one request for events stands before it is made anew.
const PULL_TIME: Duration = Duration::from_secs(30);
/// How often the server says meanwhile that it is there. Twice this without a word, and the request is made anew.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long to wait before a consumer is opened again that could not be.
const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// A consumer's end of the bus.
struct NatsSubscription {
    session: Arc<Session>,
    spec: ConsumerSpec,
    uploads: Option<pull::Stream>,
    again: Option<pull::Stream>,
    /// Read off the server and not yet delivered: a `next` that is dropped loses none of it.
    waiting: VecDeque<(Lane, Message)>,
    lease: Option<Lease>,
}

#[async_trait]
impl Bus for NatsBus {
    async fn subscribe(&self, consumer: &ConsumerSpec) -> Result<Box<dyn Subscription>, SubscribeError> {
        let lease = self.shared.take_name(consumer.name.as_str()).await.ok_or(SubscribeErrorKind::InUse)?;
        let mut subscription = NatsSubscription {
            session: Session::new(self.clone(), consumer.name.clone()),
            spec: consumer.clone(),
            uploads: None,
            again: None,
            waiting: VecDeque::new(),
            lease: Some(lease),
        };
        // Now, since a new consumer begins now. A cluster may just be choosing a leader.
        let patience = Deadline::after(REQUEST_TIME);
        while let Err(error) = subscription.open().await {
            if patience.has_passed() || !self.is_connected() {
                return Err(error);
            }
            sleep(OPEN_AGAIN).await;
        }
        Ok(Box::new(subscription))
    }
}

#[async_trait]
impl Subscription for NatsSubscription {
    async fn next(&mut self, max: usize) -> Result<Vec<Delivery>, SubscribeError> {
        let max = max.max(1);
        let mut patience = Deadline::after(REQUEST_TIME);
        loop {
            let mut deliveries = self.returned(max);
            while deliveries.len() < max && !self.waiting.is_empty() {
                match self.prepare().await {
                    Ok(delivery) => deliveries.extend(delivery),
                    Err(_) if !deliveries.is_empty() => break,
                    Err(error) => return Err(unavailable(error)),
                }
            }
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
            let read = match self.open().await {
                Ok(()) => self.read(max).await,
                Err(error) => Err(error),
            };
            // A consumer that was just made may not be known to the whole cluster, and one may be changing its leader.
            match read {
                Ok(()) => patience = Deadline::after(REQUEST_TIME),
                Err(error) if patience.has_passed() || !self.session.bus.is_connected() => return Err(error),
                Err(_) => sleep(OPEN_AGAIN).await,
            }
        }
    }
}

impl NatsSubscription {
    fn deliver(&self, arrived: Arrived) -> Delivery {
        let settler = NatsSettler::new(Arc::clone(&self.session), arrived.clone());
        Delivery::new(arrived.subject, arrived.event, arrived.attempt, arrived.sequence, Box::new(settler))
    }

    /// What was handed back, oldest first.
    fn returned(&mut self, max: usize) -> Vec<Delivery> {
        let mut returned = Vec::new();
        let mut state = self.session.lock();
        while returned.len() < max {
            let Some((_, arrived)) = state.returned.pop_first() else { break };
            returned.push(arrived);
        }
        drop(state);
        returned.into_iter().map(|arrived| self.deliver(arrived)).collect()
    }

    /// Makes a delivery of the first message that waits; none where there is nothing to deliver of it.
    ///
    /// The message stays in its place until there is no more waiting.
    async fn prepare(&mut self) -> Result<Option<Delivery>, Source> {
        let Some((lane, message)) = self.waiting.front() else { return Ok(None) };
        let info = message.info().ok().filter(|info| info.consumer == self.spec.name.as_str());
        let Some(info) = info else {
            // Anybody who may publish to our inbox can send such a thing. Nobody waits for an answer to it.
            warn!(consumer = %self.spec.name, subject = %message.subject, "passed over: no stream has sent it");
            self.waiting.pop_front();
            return Ok(None);
        };
        let key = key(*lane, &info);
        let arrived = match arrived(key, message) {
            Ok(mut arrived) => {
                if info.delivered > 1 {
                    arrived.attempt = 1 + self.session.attempts(key, arrived.event.id).await?;
                }
                arrived
            }
            Err(error) => {
                warn!(consumer = %self.spec.name, sequence = key.1, %error, "passed over: it is no event of ours");
                message.ack_with(AckKind::Term).await?;
                self.waiting.pop_front();
                return Ok(None);
            }
        };
        let Some((_, Message { message, .. })) = self.waiting.pop_front() else { return Ok(None) };
        let Some(reply) = message.reply else { return Ok(None) };
        Ok(self.session.arrive(key, reply).then(|| self.deliver(arrived)))
    }

    /// Waits until there is something to deliver.
    async fn read(&mut self, max: usize) -> Result<(), SubscribeError> {
        let session = Arc::clone(&self.session);
        let (lane, message) = tokio::select! {
            read = self.poll_lanes() => read,
            () = session.wake.notified() => return Ok(()),
        };
        match message {
            Some(Ok(message)) => self.waiting.push_back((lane, message)),
            Some(Err(error)) => return Err(self.failed(lane, error.into())),
            None => return Err(self.failed(lane, "the server has ended the request for events".into())),
        }
        while self.waiting.len() < max {
            match self.poll_lanes().now_or_never() {
                Some((lane, Some(Ok(message)))) => self.waiting.push_back((lane, message)),
                // The next call meets it again.
                _ => break,
            }
        }
        Ok(())
    }

    async fn poll_lanes(&mut self) -> (Lane, Option<Result<Message, pull::MessagesError>>) {
        let lanes = &mut [(Lane::Uploads, &mut self.uploads), (Lane::Again, &mut self.again)];
        std::future::poll_fn(|context| {
            for (lane, stream) in lanes.iter_mut() {
                if let Some(stream) = stream
                    && let Poll::Ready(message) = stream.poll_next_unpin(context)
                {
                    return Poll::Ready((*lane, message));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Gives a lane up, to be opened anew. What it had read is kept.
    fn failed(&mut self, lane: Lane, error: Source) -> SubscribeError {
        let stream = match lane {
            Lane::Uploads => &mut self.uploads,
            Lane::Again => &mut self.again,
        };
        if let Some(stream) = stream.take() {
            self.waiting.extend(drain(stream).into_iter().map(|message| (lane, message)));
        }
        unavailable(error)
    }

    /// Opens what is not open, making the consumers where they are missing.
    async fn open(&mut self) -> Result<(), SubscribeError> {
        if self.uploads.is_some() && self.again.is_some() {
            return Ok(());
        }
        let [uploads, again] = self.session.bus.consumers_of(&self.spec);
        if self.uploads.is_none() {
            self.uploads = Some(self.messages(uploads).await.map_err(unavailable)?);
        }
        if self.again.is_none() {
            self.again = Some(self.messages(again).await.map_err(unavailable)?);
        }
        Ok(())
    }

    async fn messages(&self, (stream, wanted): (String, pull::Config)) -> Result<pull::Stream, Source> {
        let consumer = self.consumer(&stream, wanted).await?;
        let prefetch = usize::try_from(self.session.bus.shared.options.prefetch).unwrap_or(usize::MAX).max(1);
        let messages =
            consumer.stream().max_messages_per_batch(prefetch).expires(PULL_TIME).heartbeat(HEARTBEAT).messages();
        Ok(messages.await?)
    }

    async fn consumer(&self, stream: &str, wanted: pull::Config) -> Result<Consumer<pull::Config>, Source> {
        let bus = &self.session.bus;
        let Some(found) = bus.consumer(stream, self.spec.name.as_str()).await.map_err(|error| error.source)? else {
            return bus.make_consumer(stream, wanted).await;
        };
        let config = &found.cached_info().config;
        if config.filter_subject == wanted.filter_subject
            && config.ack_wait == wanted.ack_wait
            && config.max_ack_pending == wanted.max_ack_pending
        {
            return Ok(found);
        }
        // Where it began can't be changed, and is not to be.
        let deliver_policy = config.deliver_policy;
        let changed = pull::Config { deliver_policy, ..wanted };
        Ok(bus.shared.context.update_consumer_on_stream(changed, stream).await?)
    }
}

impl Drop for NatsSubscription {
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.leave();
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        for (lane, stream) in [(Lane::Uploads, self.uploads.take()), (Lane::Again, self.again.take())] {
            waiting.extend(stream.into_iter().flat_map(drain).map(|message| (lane, message)));
        }
        for (lane, message) in waiting {
            if let (Ok(info), Some(reply)) = (message.info(), message.reply.clone()) {
                self.session.arrive(key(lane, &info), reply);
            }
        }
        let (session, lease) = (Arc::clone(&self.session), self.lease.take());
        session.bus.shared.runtime.clone().spawn(async move {
            session.close().await;
            drop(lease);
        });
    }
}

/// What a request for events has received and not given out.
fn drain(mut stream: pull::Stream) -> Vec<Message> {
    std::iter::from_fn(|| stream.next().now_or_never().flatten()?.ok()).collect()
}

fn key(lane: Lane, info: &Info<'_>) -> Key {
    (lane, info.stream_sequence, info.published.unix_timestamp_nanos())
}

/// Reads a message, as a first attempt.
fn arrived(key: Key, message: &Message) -> Result<Arrived, Source> {
    let headers = message.headers.as_ref().ok_or("it has no headers")?;
    let event: Event = read_event(headers, &message.payload)?;
    let (lane, sequence, stored_ns) = key;
    let (subject, sequence, stored_at) = match lane {
        Lane::Uploads => (message.subject.as_str(), sequence, Timestamp::from_nanosecond(stored_ns)?.to_string()),
        Lane::Again => (
            text(headers, header::SUBJECT).ok_or("it has no subject of its own")?,
            text(headers, header::SEQUENCE).ok_or("it has no sequence of its own")?.parse()?,
            text(headers, header::STORED_AT).unwrap_or_default().to_owned(),
        ),
    };
    let subject: Subject = subject.parse()?;
    Ok(Arrived { key, subject, event, sequence, stored_at, attempt: 1 })
}

fn unavailable(source: Source) -> SubscribeError {
    SubscribeError { kind: SubscribeErrorKind::Unavailable, source: Some(source) }
}
