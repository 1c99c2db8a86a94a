//! The settlements of one consumer that one transaction takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;
use upcall_bus::{SettleErrorKind, Settlement};

use crate::error::Cause;
use crate::error::Fault;
use crate::queue::SettleRequest;
use crate::session::Session;
use crate::statements::Statements;

/// How much of a reason is kept: enough for any message, not for a body that somebody put into one.
const REASON_BYTES_MAX: usize = 4 << 10;

/// The settlements of one consumer that one transaction takes.
pub(crate) struct Plan {
    pub(crate) session: Arc<Session>,
    requests: Vec<SettleRequest>,
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
            taken: BTreeSet::new(),
            floor: 0,
            put_settled: false,
            waiting: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, request: SettleRequest) {
        self.requests.push(request);
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
            if state.holds(request.sequence) && self.taken.insert(request.sequence) {
                admitted.push(request);
            } else {
                // Whoever does not listen does not mind.
                let _ = request.done.send(Err(SettleErrorKind::Lost.into()));
            }
        }
        self.requests = admitted;
        self.floor = if state.released { state.floor } else { state.floor_without(&self.taken) };
        let work = !self.requests.is_empty() || self.floor > state.floor;
        if !work {
            answer(&mut self.waiting, &Ok(()));
        }
        work
    }

    /// Writes the rows: for a consumer that settles in order, its floor and nothing else.
    pub(crate) fn write(&mut self, statements: &mut Statements<'_>) -> rusqlite::Result<()> {
        let state = self.session.lock();
        let name = &self.session.name;
        for request in &self.requests {
            let sequence = request.sequence;
            let has_retry_row = state.retried.contains(&sequence) || state.retry_rows_uncertain;
            match &request.settlement {
                Settlement::Retry { reason, .. } => {
                    statements.put_retry(name, sequence, request.due_at, request.attempt, shorten(reason))?;
                    continue;
                }
                Settlement::DeadLetter { reason } => {
                    statements.put_dead_letter(name, sequence, shorten(reason), request.attempt)?;
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
        state.raise_floor(self.floor);
        state.has_settled_rows |= self.put_settled;
        drop(state);
        self.session.wake.notify_one();
        for request in self.requests {
            let _ = request.done.send(Ok(()));
        }
        answer(&mut self.waiting, &Ok(()));
    }

    /// Gives everything back: it was not committed.
    pub(crate) fn fail(mut self, cause: &Cause) {
        answer(&mut self.waiting, &Err(Fault::new(SettleErrorKind::Unavailable, cause.clone())));
        for request in self.requests {
            let fault = Fault::new(SettleErrorKind::Unavailable, cause.clone());
            if request.done.send(Err(fault)).is_err() {
                // Nobody waits for the answer, so nobody else will hand the delivery back.
                self.session.hand_back(request.sequence, request.attempt);
            }
        }
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

fn shorten(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}
