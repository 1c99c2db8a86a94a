//! What the server is asked for, and what came and was not delivered yet.
//!
//! No more is asked for than there is room, in events and in bytes. So whatever came waits here, where the server is told
//! that it is being worked on, however long a sink takes over what was before it.

mod request;

use std::collections::VecDeque;
use std::task::{Context, Poll};

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{Consumer, pull};
use upcall_bus::Source;

pub(crate) use request::{Origin, Request};

use self::request::Said;
use crate::NatsBus;
use crate::session::{Key, Lane};

/// How much may wait here from one of the two streams, in bytes, unless single events need more.
const BYTES_MAX: usize = 16 << 20;
/// What a message takes beside what the server counts as its payload: subjects, and the protocol's own.
const MESSAGE_ROOM: usize = 64 << 10;

/// What is read of a consumer's two streams.
pub(crate) struct Intake {
    uploads: Reader,
    again: Reader,
    /// Which one was delivered from last: the other is next, so that neither keeps the other waiting.
    last: Lane,
}

/// What is read of one stream.
pub(crate) struct Reader {
    lane: Lane,
    consumer: Option<Consumer<pull::Config>>,
    requests: Vec<Request>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    fault: Option<Source>,
}

/// A message that came and was not delivered.
pub(crate) struct Waiting {
    pub(crate) key: Key,
    /// How often the server has delivered it.
    pub(crate) delivered: i64,
    pub(crate) message: Message,
}

/// How much there may be at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    events: usize,
    bytes: usize,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self { uploads: Reader::new(Lane::Uploads), again: Reader::new(Lane::Again), last: Lane::Again }
    }

    pub(crate) fn reader(&mut self, lane: Lane) -> &mut Reader {
        match lane {
            Lane::Uploads => &mut self.uploads,
            Lane::Again => &mut self.again,
        }
    }

    /// Takes up what has come. Ready when there is something new: a message, the end of a request, or a failure.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut accept: impl FnMut(Lane, Origin, &Message) -> Option<(Key, i64)>,
    ) -> Poll<()> {
        let [uploads, again] = [&mut self.uploads, &mut self.again].map(|reader| reader.poll(context, &mut accept));
        if uploads.is_ready() { uploads } else { again }
    }

    /// Takes out what is next.
    pub(crate) fn take(&mut self) -> Option<Waiting> {
        let turns = match self.last {
            Lane::Uploads => [Lane::Again, Lane::Uploads],
            Lane::Again => [Lane::Uploads, Lane::Again],
        };
        turns.into_iter().find_map(|lane| {
            let next = self.reader(lane).take()?;
            self.last = lane;
            Some(next)
        })
    }

    /// Puts back what was taken out, in its place.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        let reader = self.reader(waiting.key.0);
        reader.bytes += waiting.message.length;
        reader.waiting.push_front(waiting);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.uploads.waiting.is_empty() && self.again.waiting.is_empty()
    }

    /// Why a stream can't be read, told once.
    pub(crate) fn fault(&mut self) -> Option<Source> {
        self.uploads.fault.take().or_else(|| self.again.fault.take())
    }

    /// Another connection knows nothing of what was asked for. What is on its way may still come.
    pub(crate) fn outdate(&mut self) {
        for request in self.uploads.requests.iter_mut().chain(&mut self.again.requests) {
            request.outdate();
        }
    }
}

impl Reader {
    fn new(lane: Lane) -> Self {
        Self { lane, consumer: None, requests: Vec::new(), waiting: VecDeque::new(), bytes: 0, fault: None }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.consumer.is_some()
    }

    pub(crate) fn open(&mut self, consumer: Consumer<pull::Config>) {
        self.consumer = Some(consumer);
    }

    /// Gives the consumer up, to be opened again. What it has sent is kept.
    pub(crate) fn close(&mut self) {
        self.consumer = None;
    }

    pub(crate) fn asked(&mut self, request: Request) {
        self.requests.push(request);
    }

    /// What is to be asked for now, and of whom; `None` while enough is here or on its way.
    pub(crate) fn wanted(&self, max: Room) -> Option<(Consumer<pull::Config>, Room)> {
        let under_way: usize = self.requests.iter().filter_map(Request::under_way).sum();
        let here = self.waiting.len() + under_way;
        let is_enough = here > max.events / 2 || self.bytes > max.bytes / 2;
        if is_enough || self.requests.iter().any(Request::stands) {
            return None;
        }
        let room = Room { events: max.events - here, bytes: max.bytes - self.bytes };
        Some((self.consumer.clone()?, room))
    }

    fn take(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(next.message.length);
        Some(next)
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        accept: &mut impl FnMut(Lane, Origin, &Message) -> Option<(Key, i64)>,
    ) -> Poll<()> {
        let mut outcome = Poll::Pending;
        let mut at = 0;
        while let Some(request) = self.requests.get_mut(at) {
            match request.poll(context) {
                Poll::Ready(Said::Message(message)) => {
                    if let Some((key, delivered)) = accept(self.lane, request.origin, &message) {
                        self.bytes += message.length;
                        self.waiting.push_back(Waiting { key, delivered, message });
                    }
                }
                Poll::Ready(Said::Ended) => {}
                Poll::Ready(Said::Failed(fault)) => {
                    self.consumer = None;
                    self.fault = Some(fault);
                }
                Poll::Ready(Said::Nothing) => drop(self.requests.remove(at)),
                Poll::Pending => {
                    at += 1;
                    continue;
                }
            }
            outcome = Poll::Ready(());
        }
        outcome
    }
}

impl Room {
    /// As much as the options let a subscription ask for ahead of its reader, and as the server may send.
    pub(crate) fn of(bus: &NatsBus) -> Self {
        let events = usize::try_from(bus.shared.options.prefetch).unwrap_or(usize::MAX).max(1);
        // Half of it takes any single event: less is never asked for.
        Self { events, bytes: BYTES_MAX.max(2 * (bus.client().max_payload() + MESSAGE_ROOM)) }
    }
}
