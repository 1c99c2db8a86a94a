//! What one turn of the writer does: requests in their order, and one transaction for as much as possible.

use std::sync::Arc;
use std::time::Instant;

use rusqlite::{ErrorCode, params};
use upcall_bus::{ConsumerSpec, PublishErrorKind, Receipt, SettleErrorKind, Start, SubscribeErrorKind};

use super::{Writer, leaves_certainty};
use crate::clock;
use crate::error::{Cause, Fault, publish_kind};
use crate::plan::Plan;
use crate::quarantine::{self, Kept};
use crate::queue::{Publication, Request, Work};
use crate::session::{Lease, Session};
use crate::statements::{Statements, Sync};

/// It is not known whether a transaction is there: the connection can't be trusted any more.
pub(super) struct Uncertain;

impl Writer {
    /// Does the requests in their order and, with the settlements that come last among them, the publications.
    pub(super) fn requests(&mut self, statements: &mut Statements<'_>, work: &mut Work) -> Result<(), Uncertain> {
        let mut plans: Vec<Plan> = Vec::new();
        for request in work.requests.drain(..) {
            match request {
                Request::Settle(settle) => plan_of(&mut plans, &settle.session).push(settle),
                Request::Advance { session, done } => plan_of(&mut plans, &session).advance(done),
                Request::Release(session) => {
                    self.group(statements, &mut Vec::new(), std::mem::take(&mut plans))?;
                    session.lock().released = true;
                    if self.sessions.get(&session.name).is_some_and(|now| Arc::ptr_eq(now, &session)) {
                        self.sessions.remove(&session.name);
                    }
                }
                Request::Subscribe { spec, done } => {
                    self.group(statements, &mut Vec::new(), std::mem::take(&mut plans))?;
                    let lease = self.subscribe(statements, &spec);
                    // A lease that nobody takes is given back by being dropped.
                    drop(done.send(lease));
                }
                Request::Quarantine { rows, done } => {
                    let kept = self.quarantine(statements, &rows)?;
                    // Who has given up does not mind.
                    let _ = done.send(kept);
                }
                #[cfg(test)]
                Request::Execute(sql, done) => {
                    statements.db.execute_batch(&sql).unwrap();
                    let _ = done.send(());
                }
            }
        }
        self.group(statements, &mut work.publications, plans)
    }

    /// Keeps rejected callbacks, in a transaction of their own: a failure is nobody else's.
    fn quarantine(&mut self, statements: &mut Statements<'_>, rows: &[quarantine::Row]) -> Result<Kept, Uncertain> {
        match quarantine::put(statements, rows) {
            Ok(()) => Ok(Ok(())),
            Err(error) if statements.is_clean() && leaves_certainty(&error) => Ok(Err(Cause::new(&error))),
            Err(error) => {
                self.set_fault(Some(Cause::new(&error)));
                Err(Uncertain)
            }
        }
    }

    /// One transaction.
    fn group(
        &mut self,
        statements: &mut Statements<'_>,
        publications: &mut Vec<Publication>,
        mut plans: Vec<Plan>,
    ) -> Result<(), Uncertain> {
        let now = Instant::now();
        // Who has given up is not stored: the sender was told, or is gone.
        publications.retain(|publication| !publication.done.is_closed() && publication.deadline > now);
        plans.retain_mut(Plan::admit);
        if !publications.is_empty()
            && let Some(cause) = self.lost()
        {
            self.set_fault(Some(cause.clone()));
            self.refuse(std::mem::take(publications), Vec::new(), PublishErrorKind::Unavailable, &cause);
        }
        if publications.is_empty() && plans.is_empty() {
            return Ok(());
        }
        let sync = if publications.is_empty() { Sync::Lazy } else { Sync::Full };
        let before = self.next_sequence;
        let result = loop {
            let result = statements.transaction(sync, |statements| {
                let (now, begun) = (clock::now_ms(), Instant::now());
                self.receipts.clear();
                for publication in publications.iter() {
                    // Getting the lock may have taken its time.
                    if publication.deadline <= begun {
                        self.receipts.push(None);
                        continue;
                    }
                    if self.index.knows(statements, publication.key)? {
                        self.receipts.push(Some(Receipt::Duplicate));
                        continue;
                    }
                    statements.store(self.next_sequence, now, publication)?;
                    self.index.add(publication.key, self.next_sequence);
                    self.next_sequence += 1;
                    self.receipts.push(Some(Receipt::Stored));
                }
                self.index.move_on(statements)?;
                plans.iter_mut().try_for_each(|plan| plan.write(statements))
            });
            match &result {
                Ok(()) => self.index.committed(),
                Err(_) => self.index.undone(),
            }
            // Somebody with a shell holds the lock. OSS never calls again: so as long as there is time, we try again.
            let is_locked = matches!(&result, Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy));
            let now = Instant::now();
            if !is_locked || !publications.iter().any(|publication| publication.deadline > now) {
                break result;
            }
            self.next_sequence = before;
            publications.retain(|publication| publication.deadline > now);
        };
        let Err(error) = result else {
            // First of all: whoever was told of an event finds it.
            if self.next_sequence > before {
                self.shared.committed.send_replace(self.next_sequence - 1);
                self.set_fault(None);
            }
            for (publication, receipt) in publications.drain(..).zip(&self.receipts) {
                if let Some(receipt) = receipt {
                    let _ = publication.done.send(Ok(*receipt));
                }
            }
            plans.into_iter().for_each(Plan::finish);
            return Ok(());
        };
        self.next_sequence = before;
        let (kind, cause) = (publish_kind(&error), Cause::new(&error));
        self.set_fault(Some(cause.clone()));
        let certain = statements.is_clean() && leaves_certainty(&error);
        if certain && !publications.is_empty() && !plans.is_empty() {
            self.refuse(std::mem::take(publications), Vec::new(), kind, &cause);
            // Settlements need little room: where the disk is full they may go without the events.
            return self.group(statements, publications, plans);
        }
        self.refuse(std::mem::take(publications), Vec::new(), kind, &cause);
        plans.into_iter().for_each(|plan| plan.fail(&cause));
        if certain { Ok(()) } else { Err(Uncertain) }
    }

    fn subscribe(
        &mut self,
        statements: &mut Statements<'_>,
        spec: &ConsumerSpec,
    ) -> Result<Lease, Fault<SubscribeErrorKind>> {
        let name = spec.name.as_str();
        if self.sessions.contains_key(name) {
            return Err(SubscribeErrorKind::InUse.into());
        }
        let last = self.next_sequence - 1;
        let opened = statements.transaction(Sync::Full, |statements| {
            let floor = match spec.start {
                Start::New => last,
                Start::Oldest => {
                    statements
                        .db
                        .query_row("SELECT coalesce(min(sequence) - 1, ?1) FROM event", [last], |row| row.get(0))?
                }
            };
            statements.db.execute(
                "INSERT INTO consumer (name, filter, floor, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE SET filter = ?2 WHERE filter <> ?2",
                params![name, spec.filter.as_str(), floor, clock::now_ms()],
            )?;
            // What waits since a moment that is to come was written by a clock that is right no more.
            let sql = |table| {
                format!(
                    "UPDATE {table} SET due_at = ?2 + max(due_at - set_at, 0), set_at = ?2
                     WHERE consumer = ?1 AND due_at > ?2 AND set_at > ?2"
                )
            };
            for table in ["retry", "redelivery"] {
                statements.db.execute(&sql(table), params![name, clock::steady_ms()])?;
            }
            let in_flight_max = self.shared.options.in_flight_max.max(1);
            let queue = Arc::clone(&self.shared.queue);
            Session::load(statements.db, name.to_owned(), spec.filter.clone(), in_flight_max, queue)
        });
        match opened {
            Ok(session) => {
                let session = Arc::new(session);
                self.sessions.insert(name.to_owned(), Arc::clone(&session));
                Ok(Lease(session))
            }
            Err(error) => Err(Fault::new(SubscribeErrorKind::Unavailable, Cause::new(&error))),
        }
    }

    pub(super) fn refuse(
        &mut self,
        publications: Vec<Publication>,
        requests: Vec<Request>,
        kind: PublishErrorKind,
        cause: &Cause,
    ) {
        for publication in publications {
            let _ = publication.done.send(Err(Fault::new(kind, cause.clone())));
        }
        for request in requests {
            match request {
                Request::Settle(settle) => {
                    let mut plan = Plan::new(Arc::clone(&settle.session));
                    plan.push(settle);
                    plan.fail(cause);
                }
                Request::Advance { done: Some(done), .. } => {
                    let _ = done.send(Err(Fault::new(SettleErrorKind::Unavailable, cause.clone())));
                }
                Request::Subscribe { done, .. } => {
                    drop(done.send(Err(Fault::new(SubscribeErrorKind::Unavailable, cause.clone()))));
                }
                Request::Release(session) => {
                    session.lock().released = true;
                    self.sessions.remove(&session.name);
                }
                _ => {}
            }
        }
    }
}

fn plan_of<'p>(plans: &'p mut Vec<Plan>, session: &Arc<Session>) -> &'p mut Plan {
    let at = plans.iter().position(|plan| Arc::ptr_eq(&plan.session, session)).unwrap_or_else(|| {
        plans.push(Plan::new(Arc::clone(session)));
        plans.len() - 1
    });
    &mut plans[at]
}
