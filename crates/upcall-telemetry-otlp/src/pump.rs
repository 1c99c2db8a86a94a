//! From a queue to the collector, in batches, for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::body;
use crate::health::Health;
use crate::queue::{Entry, Side};
use crate::transport::{Kind, Transport};

/// What goes in one request: a collector takes 4 MiB at a time.
const BATCH_MAX: usize = 512;
/// How long the first of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long to wait before the same is sent again, at first and at most.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Sends, and sends again what was not taken.
#[derive(Clone)]
pub(crate) struct Courier {
    pub(crate) transport: watch::Receiver<Transport>,
    pub(crate) kind: Kind,
    pub(crate) side: Arc<Side>,
    pub(crate) health: Arc<Health>,
    /// Turns true when it is time to end.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Courier {
    /// Sends what is put into a queue, until it is told to stop; then what is left there, each once.
    pub(crate) async fn run<T>(mut self, mut queue: Receiver<Entry<T>>, body: impl Fn(Vec<T>) -> Bytes) {
        loop {
            let (mut batch, mut flushed, mut until) = (Vec::new(), Vec::new(), None);
            while batch.len() < BATCH_MAX {
                match self.next(&mut queue, until).await {
                    Next::Entry(Entry::Item(item)) => batch.push(item),
                    Next::Entry(Entry::Flush(done)) => {
                        flushed.push(done);
                        // What is there already goes with it: several that are flushed at a time are one request.
                        until = Some(Instant::now());
                    }
                    Next::Due => break,
                    Next::End if batch.is_empty() && flushed.is_empty() => return,
                    Next::End => break,
                }
                until.get_or_insert_with(|| Instant::now() + LINGER);
            }
            if !batch.is_empty() {
                let number = batch.len();
                self.deliver(body(batch), number).await;
            }
            flushed.into_iter().for_each(said);
        }
    }

    async fn next<T>(&mut self, queue: &mut Receiver<Entry<T>>, until: Option<Instant>) -> Next<T> {
        if *self.stop.borrow() {
            queue.close();
        }
        let end = |entry: Option<Entry<T>>| entry.map_or(Next::End, Next::Entry);
        tokio::select! {
            biased;
            entry = queue.recv() => end(entry),
            _ = self.stop.wait_for(|stop| *stop), if !queue.is_closed() => {
                queue.close();
                end(queue.recv().await)
            }
            _ = timeout_at(until.unwrap_or_else(Instant::now), std::future::pending::<()>()), if until.is_some() => Next::Due,
        }
    }

    /// Sends until it is taken or refused for good. At the end, once.
    pub(crate) async fn deliver(&mut self, body: Bytes, number: usize) {
        let mut pause = BACKOFF_FIRST;
        let Side { counts, patience } = &*self.side;
        let mut wanted = patience.wanted();
        loop {
            wanted.mark_unchanged();
            let is_last = *self.stop.borrow();
            let transport = self.transport.borrow().clone();
            let failure = match transport.send(self.kind, body.clone()).await {
                Ok(answer) => {
                    let refused = body::refused(&answer);
                    let dropped = refused.as_ref().map_or(0, |(dropped, _)| *dropped).min(number);
                    counts.add_dropped(dropped);
                    counts.add_sent(number - dropped);
                    patience.sent();
                    match refused {
                        Some((_, reason)) => self.health.failed(self.kind, &format!("it refuses some: {reason}")),
                        None => self.health.taken(self.kind),
                    }
                    return;
                }
                Err(failure) => failure,
            };
            self.health.failed(self.kind, &failure.reason);
            if is_last || !failure.is_passing {
                counts.add_dropped(number);
                return;
            }
            if wanted.has_changed().unwrap_or(false) {
                // Whoever began to wait meanwhile gets an attempt of his own: this one may have been made over a
                // connection that died while the process was frozen.
                continue;
            }
            patience.failed();
            tokio::select! {
                () = sleep(pause) => {}
                _ = wanted.changed() => {}
                // Once more, and then it is over.
                _ = self.stop.wait_for(|stop| *stop) => {}
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }
}

enum Next<T> {
    Entry(Entry<T>),
    /// The batch has waited for long enough.
    Due,
    /// The queue is closed and empty.
    End,
}

/// Tells whoever waited that it is done.
pub(crate) fn said(done: oneshot::Sender<()>) {
    // Whoever asked may have gone meanwhile.
    let _ = done.send(());
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::options::{Options, Protocol};
    use crate::queue::Queue;

    /// As an instance does that was frozen while it sent: what it sent fails as soon as it is thawed.
    #[tokio::test]
    async fn whoever_begins_to_wait_during_an_attempt_in_vain_has_another_one_made() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let options = Options { protocol: Protocol::Http, ..Options::new(endpoint.parse().unwrap()) };
        let side = Arc::<Side>::default();
        let (queue, out) = Queue::new(8, &side);
        let (_stop, stop) = watch::channel(false);
        let (_renewed, transport) = watch::channel(Transport::new(&options).unwrap());
        let health = Arc::new(Health::new(&options.endpoint));
        let courier = Courier { transport, kind: Kind::Traces, side: Arc::clone(&side), health, stop };
        queue.put(|| 1);
        let told = async {
            let (first, _) = listener.accept().await.unwrap();
            let broken = async {
                // Somebody waits.
                let _ = side.patience.wanted().wait_for(|wanted| *wanted == 1).await;
                drop(first);
                let (mut second, _) = listener.accept().await.unwrap();
                second.read_u8().await.unwrap();
                second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            };
            let flushed = async {
                queue.flush(Duration::from_secs(20), false).await;
                assert_eq!(side.counts.sent(), 1, "it is sent when the wait is over");
            };
            tokio::join!(broken, flushed);
        };
        tokio::select! {
            () = courier.run(out, Bytes::from) => panic!("it has ended"),
            () = told => {}
        }
    }
}
