//! One request for events, from asking until nothing comes any more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::Consumer;
use async_nats::jetstream::consumer::pull::{self, BatchConfig};
use async_nats::{StatusCode, Subscriber};
use futures_util::StreamExt;
use tokio::time::{Instant, Sleep, sleep};
use upcall_bus::Source;

use super::Room;
use crate::NatsBus;
use crate::connection::text;

/// How long one request for events stands before it is made anew.
const PULL_TIME: Duration = Duration::from_secs(30);
/// How often the server says meanwhile that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long the server may say nothing before it counts as gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long nothing may come of a request that has ended before what is left counts as lost.
const STRAGGLER_WAIT: Duration = Duration::from_secs(2);
/// The header that says how many of the events that were asked for the server has not sent when a request ends.
const NOT_SENT: &str = "Nats-Pending-Messages";

/// Where a message came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// When the consumer was made that was asked (nanoseconds since 1970).
    pub(crate) consumer_made: i128,
    /// The connection on which it was asked.
    pub(crate) connection: u64,
}

/// One request for events.
pub(crate) struct Request {
    answers: Subscriber,
    bus: NatsBus,
    pub(super) origin: Origin,
    /// How many events may still come.
    left: usize,
    state: Standing,
    is_outdated: bool,
    silence: Pin<Box<Sleep>>,
}

/// Whether the server still sends something for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It sends what there is.
    Open,
    /// It has sent all that it will: what is left is on its way. A server that has the consumer on other servers, too,
    /// sends an event only once those know of it, and the end of the request at once: the end comes first.
    Ended,
    /// It has failed. Something may be on its way all the same.
    Failed,
}

/// What a request says next.
#[expect(clippy::large_enum_variant, reason = "nearly all are messages, and none is kept")]
pub(super) enum Said {
    Message(Message),
    /// It has ended: another one may be sent.
    Ended,
    Failed(Source),
    /// Nothing comes any more.
    Nothing,
}

impl Request {
    /// Asks for events.
    pub(crate) async fn send(bus: &NatsBus, consumer: &Consumer<pull::Config>, room: Room) -> Result<Self, Source> {
        let connection = bus.link().borrow().generation;
        let consumer_made = consumer.cached_info().created.unix_timestamp_nanos();
        let inbox = async_nats::Subject::from(bus.client().new_inbox());
        let answers = bus.client().subscribe(inbox.clone()).await?;
        let batch = BatchConfig {
            batch: room.events,
            max_bytes: room.bytes,
            expires: Some(PULL_TIME),
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        };
        consumer.request_batch(batch, inbox).await?;
        Ok(Self {
            answers,
            bus: bus.clone(),
            origin: Origin { consumer_made, connection },
            left: room.events,
            state: Standing::Open,
            is_outdated: false,
            silence: Box::pin(sleep(SILENCE_MAX)),
        })
    }

    /// Another connection knows nothing of it.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// Whether the server has it to serve.
    pub(super) fn stands(&self) -> bool {
        self.state == Standing::Open && !self.is_outdated
    }

    /// How many events are known to be on their way.
    pub(super) fn under_way(&self) -> Option<usize> {
        (self.state == Standing::Ended && !self.is_outdated).then_some(self.left)
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Said> {
        while self.left > 0 {
            let message = match self.answers.poll_next_unpin(context) {
                Poll::Ready(Some(message)) => message,
                Poll::Ready(None) if self.stands() => return self.fail("the connection is closed".into(), 0),
                Poll::Ready(None) => break,
                Poll::Pending => {
                    return match self.silence.as_mut().poll(context) {
                        Poll::Ready(()) if self.stands() => self.fail("the server says nothing any more".into(), 0),
                        silence => silence.map(|()| Said::Nothing),
                    };
                }
            };
            self.listen(if self.state == Standing::Open { SILENCE_MAX } else { STRAGGLER_WAIT });
            match message.status.unwrap_or(StatusCode::OK) {
                StatusCode::OK => {
                    self.left -= 1;
                    let context = self.bus.shared.context.clone();
                    return Poll::Ready(Said::Message(Message { message, context }));
                }
                StatusCode::IDLE_HEARTBEAT => {}
                status => return self.end(status, &message),
            }
        }
        Poll::Ready(Said::Nothing)
    }

    /// Takes note of a status with which the server ends a request.
    fn end(&mut self, status: StatusCode, message: &async_nats::Message) -> Poll<Said> {
        let said = message.description.as_deref().unwrap_or_default();
        let is_regular = match status {
            StatusCode::TIMEOUT => true,
            // As many bytes as were asked for, or as many events.
            StatusCode::REQUEST_TERMINATED => {
                said.starts_with("Message Size Exceeds") || said.starts_with("Batch Completed")
            }
            _ => false,
        };
        if is_regular || !self.stands() {
            let not_sent = message.headers.as_ref().and_then(|headers| text(headers, NOT_SENT)?.parse().ok());
            self.left = self.left.saturating_sub(not_sent.unwrap_or(0));
            self.state = Standing::Ended;
            self.listen(STRAGGLER_WAIT);
            return Poll::Ready(Said::Ended);
        }
        let left = if status == StatusCode::NO_RESPONDERS { 0 } else { self.left };
        self.fail(format!("the server has ended the request for events: {status} {said}").into(), left)
    }

    fn fail(&mut self, fault: Source, left: usize) -> Poll<Said> {
        (self.state, self.left) = (Standing::Failed, left);
        self.listen(STRAGGLER_WAIT);
        Poll::Ready(Said::Failed(fault))
    }

    /// Waits so long for what comes next.
    fn listen(&mut self, wait: Duration) {
        self.silence.as_mut().reset(Instant::now() + wait);
    }
}
