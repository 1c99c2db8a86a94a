//! The way back for one delivery.

use std::sync::Arc;

use async_nats::jetstream::AckKind;
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;
use upcall_bus::{SettleError, SettleErrorKind, Settlement, Settler, Source};

use crate::connection::REQUEST_TIME;
use crate::dead;
use crate::session::{Arrived, Held, Key, Session};

pub(crate) struct NatsSettler {
    session: Arc<Session>,
    /// Gone once it is settled or handed back.
    arrived: Option<Arrived>,
}

impl NatsSettler {
    pub(crate) fn new(session: Arc<Session>, arrived: Arrived) -> Self {
        Self { session, arrived: Some(arrived) }
    }

    fn lost(&mut self) -> SettleError {
        self.arrived = None;
        SettleErrorKind::Lost.into()
    }
}

#[async_trait]
impl Settler for NatsSettler {
    async fn settle(&mut self, settlement: &Settlement) -> Result<(), SettleError> {
        let Some(arrived) = &self.arrived else { return Err(SettleErrorKind::Lost.into()) };
        let key = arrived.key;
        if !self.session.holds(key) {
            return Err(self.lost());
        }
        if *settlement == Settlement::HandBack {
            self.hand_back();
            return Ok(());
        }
        // The client would keep each offer until it is connected again.
        if !self.session.bus.is_connected() {
            return Err(unavailable("there is no connection to a NATS server".into()));
        }
        match self.session.stands(key).await {
            Ok(true) => {}
            Ok(false) => return Err(self.lost()),
            Err(error) => return Err(unavailable(error)),
        }
        let kind = match settlement {
            Settlement::HandBack => return Ok(()),
            Settlement::Ack => AckKind::Ack,
            Settlement::Retry { after, .. } => {
                self.session.count_attempts(key, arrived.event.id, arrived.attempt).await.map_err(unavailable)?;
                AckKind::Nak(Some(*after))
            }
            Settlement::DeadLetter { reason } => {
                // Published before the event is settled: a crash in between publishes it again, under the same id.
                dead::publish(&self.session, arrived, reason, Timestamp::now()).await.map_err(unavailable)?;
                AckKind::Ack
            }
        };
        let is_for_good = matches!(kind, AckKind::Ack);
        let Some(held) = self.session.take_out(key) else { return Err(self.lost()) };
        // Put back whatever happens, also when this future is dropped, until the server has answered.
        let mut settling = Settling { session: &self.session, key, held: Some(held.clone()) };
        if is_for_good {
            // A server that was killed may have forgotten that it delivered it, and send it once more until then.
            self.session.put_back(key, held.clone());
        }
        let answer = self.session.client().request(held.reply.clone(), kind.into());
        let failure: Source = match timeout(REQUEST_TIME, answer).await {
            Ok(Ok(_)) => {
                settling.held = None;
                if is_for_good {
                    // Whatever was sent before the answer has come before it.
                    self.session.collect();
                    self.session.take_out(key);
                    self.session.wake.notify_one();
                }
                drop(settling);
                self.arrived = None;
                return Ok(());
            }
            Ok(Err(error)) => error.into(),
            Err(elapsed) => elapsed.into(),
        };
        let fate = fate(&self.session, key, &held).await;
        drop(settling);
        // Where it has come again meanwhile, that is to be settled.
        if fate == Fate::Open || !self.session.forget(key, &held) {
            return Err(unavailable(failure));
        }
        if fate == Fate::Settled && *settlement == Settlement::Ack {
            self.arrived = None;
            return Ok(());
        }
        Err(self.lost())
    }

    fn hand_back(&mut self) {
        if let Some(arrived) = self.arrived.take() {
            self.session.hand_back(arrived);
        }
    }
}

/// What became of an event of which the server does not answer the settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The consumer waits for it, as far as is known.
    Open,
    /// The consumer counts it as settled.
    Settled,
    /// The consumer is gone, perhaps for another one of its name.
    Lost,
}

async fn fate(session: &Session, key: Key, held: &Held) -> Fate {
    let (lane, sequence, _) = key;
    match session.bus.consumer(&session.bus.stream_of(lane), session.name.as_str()).await {
        Err(_) => Fate::Open,
        Ok(None) => Fate::Lost,
        Ok(Some(consumer)) => {
            let info = consumer.cached_info();
            if info.created.unix_timestamp_nanos() != held.consumer_made {
                Fate::Lost
            } else if info.ack_floor.stream_sequence >= sequence {
                Fate::Settled
            } else {
                Fate::Open
            }
        }
    }
}

/// An event that is being settled.
struct Settling<'s> {
    session: &'s Session,
    key: Key,
    /// None once the server has confirmed.
    held: Option<Held>,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.session.put_back(self.key, held);
        }
    }
}

fn unavailable(source: Source) -> SettleError {
    SettleError { kind: SettleErrorKind::Unavailable, source: Some(source) }
}
