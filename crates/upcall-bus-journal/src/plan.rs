//! The settlements of one consumer that one transaction takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;
use upcall_bus::{SettleErrorKind, Settlement};

use crate::error::Cause;
use crate::error::Fault;
use crate::queue::SettleRequest;
use crate::redelivery;
use crate::session::{Item, Session};
use crate::statements::Statements;

/// The settlements of one consumer that one transaction takes.
pub(crate) struct Plan {
    pub(crate) session: Arc<Session>,
    requests: Vec<SettleRequest>,
    /// Those of redeliveries; they move no floor.
    redeliveries: Vec<(u64, SettleRequest)>,
    /// The sequences of the requests that were written.
    taken: BTreeSet<u64>,
    floor: u64,
    put_settled: bool,
    /// Who waits for the floor alone.
    waiting: Vec<oneshot::Sender<Result<(), Fault<SettleErrorKind>>>>,
}

impl Plan {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            requests: Vec::new(),
            redeliveries: Vec::new(),
            taken: BTreeSet::new(),
            floor: 0,
            put_settled: false,
            waiting: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, request: SettleRequest) {
        match request.item {
            Item::Event => self.requests.push(request),
            Item::Redelivery(number) => self.redeliveries.push((number, request)),
        }
    }

    /// Has the floor raised as far as it goes, also where nothing is settled.
    pub(crate) fn advance(&mut self, done: Option<oneshot::Sender<Result<(), Fault<SettleErrorKind>>>>) {
        self.waiting.extend(done);
    }

    /// Turns away what is no longer this subscription's to settle. Tells whether there is anything to write.
    pub(crate) fn admit(&mut self) -> bool {
        let state = self.session.lock();
        self.taken.clear();
        let mut admitted = Vec::with_capacity(self.requests.len());
        for request in self.requests.drain(..) {
            if state.holds(request.item, request.sequence) && self.taken.insert(request.sequence) {
                admitted.push(request);
            } else {
                // Whoever does not listen does not mind.
                let _ = request.done.send(Err(SettleErrorKind::Lost.into()));
            }
        }
        self.requests = admitted;
        let mut taken = BTreeSet::new();
        let lost = |(number, request): &mut (u64, SettleRequest)| {
            !state.holds(request.item, request.sequence) || !taken.insert(*number)
        };
        for (_, request) in self.redeliveries.extract_if(.., lost) {
            let _ = request.done.send(Err(SettleErrorKind::Lost.into()));
        }
        self.floor = if state.released { state.floor } else { state.floor_without(&self.taken) };
        let work = !self.requests.is_empty() || !self.redeliveries.is_empty() || self.floor > state.floor;
        if !work {
            answer(&mut self.waiting, &Ok(()));
        }
        work
    }

    /// Writes the rows: for a consumer that settles in order, its floor and nothing else.
    pub(crate) fn write(&mut self, statements: &mut Statements<'_>) -> rusqlite::Result<()> {
        let state = self.session.lock();
        let name = &self.session.name;
        for (number, request) in &self.redeliveries {
            redelivery::settle(statements.db, *number, request)?;
        }
        for request in &self.requests {
            let sequence = request.sequence;
            let has_retry_row = state.retried.contains(&sequence) || state.retry_rows_uncertain;
            match &request.settlement {
                Settlement::Retry { .. } => {
                    statements.put_retry(name, sequence, request.due_at, request.attempt, request.reason())?;
                    continue;
                }
                Settlement::DeadLetter { .. } => {
                    statements.put_dead_letter(name, sequence, request.reason(), request.attempt)?;
                }
                Settlement::Ack | Settlement::HandBack => {}
            }
            if has_retry_row {
                statements.drop_retry(name, sequence)?;
            }
            if sequence > self.floor {
                statements.put_settled(name, sequence)?;
                self.put_settled = true;
            }
        }
        if self.floor > state.floor {
            statements.raise_floor(name, self.floor)?;
            if state.has_settled_rows {
                statements.prune_settled(name, self.floor)?;
            }
        }
        Ok(())
    }

    /// Takes over what has been committed.
    pub(crate) fn finish(mut self) {
        let mut state = self.session.lock();
        for request in &self.requests {
            state.fresh.remove(&request.sequence);
            state.retried.remove(&request.sequence);
            if request.sequence > self.floor {
                state.ahead.insert(request.sequence);
            }
            if let Settlement::Retry { .. } = request.settlement {
                state.due_by(Some(request.due_at));
            }
        }
        for (number, request) in &self.redeliveries {
            state.redelivered.held.remove(number);
            if let Settlement::Retry { .. } = request.settlement {
                state.redelivered.due_by(Some(request.due_at));
            }
        }
        state.raise_floor(self.floor);
        state.has_settled_rows |= self.put_settled;
        drop(state);
        self.session.wake.notify_one();
        answer(&mut self.waiting, &Ok(()));
        for request in self.into_requests() {
            let _ = request.done.send(Ok(()));
        }
    }

    /// Gives everything back: it was not committed.
    pub(crate) fn fail(mut self, cause: &Cause) {
        answer(&mut self.waiting, &Err(Fault::new(SettleErrorKind::Unavailable, cause.clone())));
        let session = Arc::clone(&self.session);
        for request in self.into_requests() {
            let fault = Fault::new(SettleErrorKind::Unavailable, cause.clone());
            if request.done.send(Err(fault)).is_err() {
                // Nobody waits for the answer, so nobody else will hand the delivery back.
                session.hand_back(request.item, request.sequence, request.attempt);
            }
        }
    }

    fn into_requests(self) -> impl Iterator<Item = SettleRequest> {
        self.requests.into_iter().chain(self.redeliveries.into_iter().map(|(_, request)| request))
    }
}

fn answer(
    waiting: &mut Vec<oneshot::Sender<Result<(), Fault<SettleErrorKind>>>>,
    result: &Result<(), Fault<SettleErrorKind>>,
) {
    for done in waiting.drain(..) {
        let _ = done.send(result.clone());
    }
}
