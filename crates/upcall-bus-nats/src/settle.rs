//! The way back for one delivery.

use std::sync::Arc;

use async_nats::jetstream::AckKind;
use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;
use upcall_bus::{SettleError, SettleErrorKind, Settlement, Settler, Source};

use crate::connection::REQUEST_TIME;
use crate::dead;
use crate::session::{Arrived, Session};

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
        if self.session.reply(key).is_none() {
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
        // The server may have asked again meanwhile.
        let Some(reply) = self.session.reply(key) else { return Err(SettleErrorKind::Lost.into()) };
        let answer = self.session.client().request(reply, kind.into());
        match timeout(REQUEST_TIME, answer).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(unavailable(error.into())),
            Err(elapsed) => return Err(unavailable(elapsed.into())),
        }
        self.session.settled(key);
        self.arrived = None;
        Ok(())
    }

    fn hand_back(&mut self) {
        if let Some(arrived) = self.arrived.take() {
            self.session.hand_back(arrived);
        }
    }
}

fn unavailable(source: Source) -> SettleError {
    SettleError { kind: SettleErrorKind::Unavailable, source: Some(source) }
}
