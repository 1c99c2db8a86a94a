//! A consumer's end of the bus.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::sleep;
use tracing::warn;
use upcall_bus::{Bus, ConsumerSpec, Deadline, Delivery, Source, SubscribeError, SubscribeErrorKind, Subscription};
use upcall_event::{Event, Subject};
use upcall_telemetry::error_chain;

use crate::connection::{Lease, REQUEST_TIME, text};
use crate::intake::{Intake, Request, Room, Waiting};
use crate::names::header;
use crate::publish::read_event;
use crate::session::{Arrived, Key, Lane, Session};
use crate::settle::NatsSettler;
use crate::{NatsBus, dead};

/// How long to wait before a consumer is opened again that could not be.
const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// The header that says how large the data is of a message that came without.
const DATA_LEFT_OUT: &str = "Nats-Msg-Size";

/// A consumer's end of the bus.
struct NatsSubscription {
    session: Arc<Session>,
    spec: ConsumerSpec,
    /// The connection over which events were asked for.
    generation: u64,
    lease: Option<Lease>,
}

#[async_trait]
impl Bus for NatsBus {
    async fn subscribe(&self, consumer: &ConsumerSpec) -> Result<Box<dyn Subscription>, SubscribeError> {
        let lease = self.shared.take_name(consumer.name.as_str()).await.ok_or(SubscribeErrorKind::InUse)?;
        let mut subscription = NatsSubscription {
            session: Session::new(self.clone(), consumer.name.clone()),
            spec: consumer.clone(),
            generation: self.link().borrow().generation,
            lease: Some(lease),
        };
        // Now, since a new consumer begins now. A cluster may just be choosing a leader.
        let patience = Deadline::after(REQUEST_TIME);
        while let Err(error) = subscription.open().await {
            if patience.has_passed() || !self.is_connected() {
                return Err(explained(self, error));
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
            // What is done now could not be settled, and would be done again.
            if !self.session.bus.is_connected() || !self.session.bus.link().borrow().connected {
                return Err(unavailable(self.session.bus.why_disconnected().into()));
            }
            self.session.collect();
            let deliveries = self.due(max).await?;
            if !deliveries.is_empty() {
                // So that more comes while these are worked on. What goes wrong shows when there are no more.
                let _ = self.ask().await;
                return Ok(deliveries);
            }
            // A consumer that was just made may not be known to the whole cluster, and one may be changing its leader.
            match self.wait().await {
                Ok(()) => patience = Deadline::after(REQUEST_TIME),
                Err(error) if patience.has_passed() || !self.session.bus.is_connected() => {
                    return Err(explained(&self.session.bus, error));
                }
                Err(_) => sleep(OPEN_AGAIN).await,
            }
        }
    }
}

impl NatsSubscription {
    /// What can be delivered now.
    async fn due(&mut self, max: usize) -> Result<Vec<Delivery>, SubscribeError> {
        let mut deliveries = self.returned(max);
        while deliveries.len() < max {
            let Some(waiting) = self.session.intake().take() else { break };
            let taken = Taken { session: &self.session, waiting: Some(waiting) };
            match self.prepare(taken).await {
                Ok(delivery) => deliveries.extend(delivery),
                Err(_) if !deliveries.is_empty() => break,
                Err(error) => return Err(unavailable(error)),
            }
        }
        Ok(deliveries)
    }

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

    /// Makes a delivery of a message; none where there is nothing to deliver of it. After a failure it waits as before.
    async fn prepare(&self, mut taken: Taken<'_>) -> Result<Option<Delivery>, Source> {
        let Some(Waiting { key, delivered, message }) = &taken.waiting else { return Ok(None) };
        let key = *key;
        let arrived = match arrived(key, message) {
            // Its place is taken by another event.
            _ if !self.session.holds(key) => None,
            Ok(mut arrived) => {
                if *delivered > 1 {
                    arrived.attempt = 1 + self.session.attempts(key, arrived.event.id).await?;
                }
                Some(arrived)
            }
            Err(error) => {
                self.set_aside(key, *delivered, message, &error_chain(&*error)).await?;
                None
            }
        };
        taken.waiting = None;
        Ok(arrived.map(|arrived| self.deliver(arrived)))
    }

    /// Makes a dead letter of a message that can't be read, or leaves it to the server for a while.
    async fn set_aside(&self, key: Key, delivered: i64, message: &Message, error: &str) -> Result<(), Source> {
        let (consumer, sequence) = (&self.spec.name, key.1);
        let says_size = message.headers.as_ref().is_some_and(|headers| text(headers, DATA_LEFT_OUT).is_some());
        if says_size && message.payload.is_empty() && (delivered == 1 || self.is_without_data(key.0).await?) {
            // Mended when it is opened again; the server brings the message again when its patience ends.
            warn!(%consumer, sequence, "passed over for now: the consumer gets no data, headers_only is set");
            self.session.intake().reader(key.0).close();
            self.session.take_out(key);
            return Ok(());
        }
        let reason = format!("it is no event of ours: {error}");
        match dead::publish_unreadable(&self.session, key, message, &reason, Timestamp::now()).await {
            Ok(()) => {
                warn!(%consumer, sequence, error, "dead letter: it is no event of ours");
                message.ack_with(AckKind::Term).await?;
            }
            Err(error) if !self.session.bus.is_connected() => return Err(error),
            // Those behind it do not wait for it. It comes again when the server's patience ends.
            Err(failure) => {
                let failure = error_chain(&*failure);
                warn!(%consumer, sequence, error, failure, "passed over for now: it is no event, and can't be a dead letter");
            }
        }
        self.session.take_out(key);
        Ok(())
    }

    /// Whether the server sends this consumer headers only.
    async fn is_without_data(&self, lane: Lane) -> Result<bool, Source> {
        let bus = &self.session.bus;
        let consumer =
            bus.consumer(&bus.stream_of(lane), self.spec.name.as_str()).await.map_err(|error| error.source)?;
        Ok(consumer.is_some_and(|consumer| consumer.cached_info().config.headers_only))
    }

    /// Waits until there may be something to deliver.
    async fn wait(&mut self) -> Result<(), Source> {
        self.open().await?;
        self.ask().await?;
        let (session, generation) = (&self.session, self.generation);
        let mut link = session.bus.link();
        tokio::select! {
            () = poll_fn(|context| session.poll_intake(context)) => {}
            () = session.wake.notified() => {}
            _ = link.wait_for(|link| !link.connected || link.generation != generation) => {}
        }
        let mut intake = session.intake();
        match intake.fault() {
            Some(fault) if intake.is_empty() => Err(fault),
            _ => Ok(()),
        }
    }

    /// Opens what is not open, making the consumers where they are missing.
    async fn open(&mut self) -> Result<(), Source> {
        for (lane, (stream, wanted)) in
            [Lane::Uploads, Lane::Again].into_iter().zip(self.session.bus.consumers_of(&self.spec))
        {
            if !self.session.intake().reader(lane).is_open() {
                let consumer = self.consumer(&stream, wanted).await?;
                self.session.intake().reader(lane).open(consumer);
            }
        }
        Ok(())
    }

    /// Asks for more events where there is room for them.
    async fn ask(&mut self) -> Result<(), Source> {
        let bus = &self.session.bus;
        let generation = bus.link().borrow().generation;
        if generation != self.generation {
            self.session.intake().outdate();
            self.generation = generation;
        }
        for lane in [Lane::Uploads, Lane::Again] {
            let wanted = self.session.intake().reader(lane).wanted(Room::of(bus));
            if let Some((consumer, room)) = wanted {
                let request = Request::send(bus, &consumer, room).await?;
                self.session.intake().reader(lane).asked(request);
            }
        }
        Ok(())
    }

    async fn consumer(&self, stream: &str, wanted: pull::Config) -> Result<Consumer<pull::Config>, Source> {
        let bus = &self.session.bus;
        let Some(found) = bus.consumer(stream, self.spec.name.as_str()).await.map_err(|error| error.source)? else {
            return bus.make_consumer(stream, wanted).await;
        };
        let config = &found.cached_info().config;
        let is_usable = config.filter_subject == wanted.filter_subject
            && config.filter_subjects.is_empty()
            && config.ack_policy == wanted.ack_policy
            && config.ack_wait == wanted.ack_wait
            && config.max_ack_pending == wanted.max_ack_pending
            && !config.headers_only;
        if is_usable { Ok(found) } else { bus.mend_consumer(stream, &wanted, &found).await }
    }
}

/// A message that is being prepared. It waits again unless that was done.
struct Taken<'s> {
    session: &'s Session,
    waiting: Option<Waiting>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            self.session.intake().put_back(waiting);
        }
    }
}

impl Drop for NatsSubscription {
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.leave();
        }
        // What has come belongs to the session, which gives it back.
        self.session.collect();
        *self.session.intake() = Intake::new();
        let (session, lease) = (Arc::clone(&self.session), self.lease.take());
        session.bus.shared.runtime.clone().spawn(async move {
            session.close().await;
            drop(lease);
        });
    }
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

/// Says that there is no connection, and why, where that is what went wrong.
fn explained(bus: &NatsBus, error: Source) -> SubscribeError {
    unavailable(if bus.is_connected() { error } else { bus.why_disconnected().into() })
}

fn unavailable(source: Source) -> SubscribeError {
    SubscribeError { kind: SubscribeErrorKind::Unavailable, source: Some(source) }
}
