//! From a queue to the collector, in batches, for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use upcall_egress::excerpt;

use crate::body::Answer;
use crate::halves::{Piece, halves};
use crate::health::Health;
use crate::queue::{Entry, Load, Side};
use crate::transport::{Failure, Kind, REASON_CHARS_MAX, Transport, Verdict};

/// What goes in one request, in things and in bytes. Most collectors take 4 MiB at a time.
const BATCH_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What is halved before it is sent, as metrics of very many routes are.
const BODY_BYTES_MAX: usize = 2 << 20;
/// What is not halved any further: no collector takes less. One that refuses everything, since it has no room, would
/// otherwise be asked about each thing by itself.
const BODY_BYTES_MIN: usize = 32 << 10;
/// How often something is sent that may never be taken.
const DOUBTS_MAX: u32 = 5;
/// The longest that a collector is left alone because it asks for it. What waits meanwhile is bounded.
const ASKED_MAX: Duration = Duration::from_secs(5 * 60);
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
    pub(crate) async fn run<T: Load>(mut self, mut queue: Receiver<Entry<T>>, body: impl Fn(Vec<T>) -> Bytes) {
        loop {
            let (mut batch, mut bytes, mut flushed, mut until) = (Vec::new(), 0, Vec::new(), None);
            while batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
                match self.next(&mut queue, until).await {
                    Next::Entry(Entry::Item(item)) => {
                        self.side.end(item.bytes());
                        bytes += item.bytes();
                        batch.push(item);
                    }
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
                self.deliver(Piece { body: body(batch), number }).await;
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

    /// Sends until it is taken or refused for good, in pieces if it is too much at a time. At the end, once.
    pub(crate) async fn deliver(&mut self, whole: Piece) {
        let mut pieces = vec![whole];
        while let Some(piece) = pieces.pop() {
            let refused = match piece.body.len() > BODY_BYTES_MAX {
                true => None,
                false => match self.hand_over(&piece).await {
                    Ok(()) => continue,
                    Err(reason) => Some(reason),
                },
            };
            let both = halves(self.kind, &piece.body).filter(|_| piece.body.len() > BODY_BYTES_MIN);
            match (both, refused) {
                (Some([first, second]), _) => pieces.extend([second, first]),
                (None, reason) => {
                    let reason = reason.unwrap_or_else(|| "it is too long to be sent".to_owned());
                    self.drop_it(&piece, &reason);
                }
            }
        }
    }

    /// Sends until it is taken, or dropped. Gives back what was said if it is too much at a time.
    async fn hand_over(&mut self, piece: &Piece) -> Result<(), String> {
        let (mut pause, mut doubts) = (BACKOFF_FIRST, 0);
        let side = Arc::clone(&self.side);
        let mut wanted = side.patience.wanted();
        loop {
            wanted.mark_unchanged();
            let is_last = *self.stop.borrow();
            let transport = self.transport.borrow().clone();
            let Failure { reason, verdict } = match transport.send(self.kind, piece.body.clone()).await {
                Ok(answer) => {
                    self.taken(piece, &answer);
                    return Ok(());
                }
                Err(failure) => failure,
            };
            doubts += u32::from(verdict == Verdict::Doubtful);
            let asked = match verdict {
                Verdict::TooMuch => return Err(reason),
                Verdict::Later(asked) if !is_last => asked.map(|asked| asked.min(ASKED_MAX)),
                Verdict::Doubtful if !is_last && doubts < DOUBTS_MAX => None,
                Verdict::Later(_) | Verdict::Doubtful | Verdict::Never => {
                    self.drop_it(piece, &reason);
                    return Ok(());
                }
            };
            self.health.waits(self.kind, &reason);
            if asked.is_none() && wanted.has_changed().unwrap_or(false) {
                // Whoever began to wait meanwhile gets an attempt of his own: this one may have been made over a
                // connection that died while the process was frozen.
                continue;
            }
            side.patience.failed();
            self.rest(asked.unwrap_or(pause), asked.is_some(), &mut wanted).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    /// Waits until it is time for another attempt. Whoever begins to wait meanwhile has it made at once; but where the
    /// collector has asked for the time, he waits in vain.
    async fn rest(&mut self, time: Duration, is_asked: bool, wanted: &mut watch::Receiver<u64>) {
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                // Once more, and then it is over.
                _ = self.stop.wait_for(|stop| *stop) => return,
                _ = wanted.changed() => match is_asked {
                    true => self.side.patience.failed(),
                    false => return,
                },
            }
        }
    }

    fn taken(&self, piece: &Piece, answer: &Answer) {
        let refused = answer.refused.min(piece.number);
        self.side.counts.add_dropped(refused);
        self.side.counts.add_sent(piece.number - refused);
        self.side.patience.sent();
        if answer.refused > 0 {
            let reason = excerpt(answer.reason.as_bytes(), REASON_CHARS_MAX);
            self.health.dropped(self.kind, &format!("it refuses some: {reason}"));
        } else {
            self.health.taken(self.kind);
        }
    }

    fn drop_it(&self, piece: &Piece, reason: &str) {
        self.side.counts.add_dropped(piece.number);
        self.health.dropped(self.kind, reason);
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
    use crate::queue::{Queue, Wanted};

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
        queue.put(|| Wanted);
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
            () = courier.run(out, |_| Bytes::from_static(b"x")) => panic!("it has ended"),
            () = told => {}
        }
    }
}
