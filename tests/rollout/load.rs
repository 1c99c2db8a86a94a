//! Callbacks at a steady rate, each over a connection of its own, as OSS sends them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Plan;
use super::fleet::Fleet;
use crate::http::read_answer;
use crate::signer::Signer;

/// How long OSS waits for an answer.
const OSS_PATIENCE: Duration = Duration::from_secs(5);
/// How many callbacks one thread signs beforehand, at a time.
const SIGNED_TOGETHER: usize = 256;

/// What became of one callback.
pub(super) struct Answer {
    pub(super) object: String,
    pub(super) took: Duration,
    /// Why it was none; `None` if it was.
    pub(super) failure: Option<String>,
}

/// Callbacks under way.
pub(super) struct Load(JoinHandle<Vec<Answer>>);

impl Load {
    /// Signs all that will be sent, and begins to send it.
    pub(super) fn start(fleet: &Fleet, plan: Plan) -> Self {
        let seconds = usize::try_from(plan.duration.as_secs()).unwrap_or(usize::MAX);
        let count = seconds.saturating_mul(plan.per_second as usize);
        let requests = signed(&fleet.signer, count);
        let address = fleet.address;
        let every = Duration::from_secs(1) / plan.per_second;
        Self(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(send_all(address, requests, every))
        }))
    }

    /// Waits for the answers to all that was sent.
    pub(super) fn end(self) -> Vec<Answer> {
        self.0.join().expect("sending does not panic")
    }
}

fn signed(signer: &Signer, count: usize) -> Vec<(String, Vec<u8>)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let sign = || {
        let mut own = Vec::new();
        loop {
            let first = next.fetch_add(SIGNED_TOGETHER, Ordering::Relaxed);
            for number in first..(first + SIGNED_TOGETHER).min(count) {
                let object = format!("photos/{number:08}.jpg");
                // As OSS makes them: the first 8 digits are a time.
                let request = signer.upload(
                    "/oss/test?a=%2Fb%20c&d=+e",
                    "examplebucket",
                    &object,
                    &format!("5CF3E782{number:016X}"),
                );
                own.push((object, request));
            }
            if first >= count {
                return own;
            }
        }
    };
    std::thread::scope(|scope| {
        let signing: Vec<_> = (0..threads).map(|_| scope.spawn(sign)).collect();
        signing.into_iter().flat_map(|thread| thread.join().expect("signing does not panic")).collect()
    })
}

async fn send_all(address: SocketAddr, requests: Vec<(String, Vec<u8>)>, every: Duration) -> Vec<Answer> {
    let (begin, mut under_way, mut answers) = (Instant::now(), JoinSet::new(), Vec::with_capacity(requests.len()));
    for (number, (object, request)) in requests.into_iter().enumerate() {
        // What was late is made up for: the rate is the rate.
        sleep_until(begin + every * u32::try_from(number).unwrap_or(u32::MAX)).await;
        under_way.spawn(async move {
            let sent_at = Instant::now();
            let failure = match timeout(OSS_PATIENCE, exchange(address, &request)).await {
                Ok(Ok(200)) => None,
                Ok(Ok(status)) => Some(format!("{object}: status {status}")),
                Ok(Err(error)) => Some(format!("{object}: {error}")),
                Err(_) => Some(format!("{object}: no answer within {} s", OSS_PATIENCE.as_secs())),
            };
            Answer { object, took: sent_at.elapsed(), failure }
        });
        while let Some(answer) = under_way.try_join_next() {
            answers.extend(answer);
        }
    }
    while let Some(answer) = under_way.join_next().await {
        answers.extend(answer);
    }
    answers
}

async fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(1024);
    // The connection is closed behind the answer, as the request asks.
    stream.read_to_end(&mut answer).await?;
    Ok(read_answer(&mut answer.as_slice())?.status)
}
