//! The way back for one delivery.

use std::sync::Arc;

use async_nats::Subject as Reply;
use async_nats::jetstream::AckKind;
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;
use upcall_bus::{SettleError, SettleErrorKind, Settlement, Settler, Source};

use crate::connection::REQUEST_TIME;
use crate::dead;
use crate::session::{Arrived, Key, Session};

pub(crate) struct NatsSettler {
    session: Arc<Session>,
    /// Gone once it is settled or handed back.
    arrived: Option<Arrived>,
}

impl NatsSettler {
    pub(crate) fn new(session: Arc<Session>, arrived: Arrived) -> Self {
        Self { session, arrived: Some(arrived) }
    }
}

#[async_trait]
impl Settler for NatsSettler {
    async fn settle(&mut self, settlement: &Settlement) -> Result<(), SettleError> {
        let Some(arrived) = &self.arrived else { return Err(SettleErrorKind::Lost.into()) };
        let key = arrived.key;
        if !self.session.holds(key) {
            self.arrived = None;
            return Err(SettleErrorKind::Lost.into());
        }
        let kind = match settlement {
            Settlement::HandBack => {
                self.hand_back();
                return Ok(());
            }
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
        let Some(reply) = self.session.take_out(key) else { return Err(SettleErrorKind::Lost.into()) };
        // Put back whatever happens, also when this future is dropped, until the server has answered.
        let mut settling = Settling { session: &self.session, key, reply: Some(reply.clone()) };
        let answer = self.session.client().request(reply, kind.into());
        match timeout(REQUEST_TIME, answer).await {
            Ok(Ok(_)) => settling.reply = None,
            Ok(Err(error)) => return Err(unavailable(error.into())),
            Err(elapsed) => return Err(unavailable(elapsed.into())),
        }
        drop(settling);
        self.arrived = None;
        Ok(())
    }

    fn hand_back(&mut self) {
        if let Some(arrived) = self.arrived.take() {
            self.session.hand_back(arrived);
        }
    }
}

/// An event that is being settled.
struct Settling<'s> {
    session: &'s Session,
    key: Key,
    /// Where to answer; none once the server has confirmed.
    reply: Option<Reply>,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            self.session.put_back(self.key, reply);
        }
    }
}

fn unavailable(source: Source) -> SettleError {
    SettleError { kind: SettleErrorKind::Unavailable, source: Some(source) }
}
