//! The uploads: callbacks at a steady rate, as OSS sends them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::facts::Upload;
use super::{Attempt, Fleet, Oracle, Outcome};
use crate::http::read_answer;
use crate::signer::FORM;

/// How long OSS waits for an answer.
pub(crate) const OSS_PATIENCE: Duration = Duration::from_secs(5);
/// How many uploads may wait for their answers at a time. While all of them do, none is begun.
const UPLOADS_MAX: usize = 512;
/// Where the callbacks go.
const TARGET: &str = "/oss/uploads";
/// Of so many uploads one is reported to two gateways at once, on purpose.
const DOUBLED_EVERY: u64 = 7;
/// Of so many uploads one has a second URL, which OSS tries when the first one fails.
const SECOND_URL_EVERY: u64 = 3;

/// Callbacks under way. They end when this is dropped, or stopped.
pub struct Load {
    runtime: Runtime,
    stopping: Arc<AtomicBool>,
    sending: JoinHandle<()>,
}

impl Load {
    /// Begins to send so many uploads a second.
    ///
    /// # Panics
    /// If a thread can't be started.
    pub fn start(fleet: &Arc<Fleet>, oracle: &Arc<Oracle>, per_second: u32) -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = threads.expect("a thread starts");
        let stopping = Arc::new(AtomicBool::new(false));
        let sending = send_all(Arc::clone(fleet), Arc::clone(oracle), Arc::clone(&stopping), per_second.max(1));
        let sending = runtime.spawn(sending);
        Self { runtime, stopping, sending }
    }

    /// Sends no more, and waits for the answers to what was sent: for as long as OSS waits, twice.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // A panic of the task shows in what is missing.
        let _ = self.runtime.block_on(self.sending);
    }
}

/// Sends one upload to one gateway, and waits for its answer.
///
/// # Panics
/// If a thread can't be started.
pub fn send_one(fleet: &Fleet, oracle: &Oracle, gateway: usize) -> (Upload, Attempt) {
    let upload = oracle.issue();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let attempt = runtime.block_on(send(fleet, oracle, upload, gateway));
    (upload, attempt)
}

async fn send_all(fleet: Arc<Fleet>, oracle: Arc<Oracle>, stopping: Arc<AtomicBool>, per_second: u32) {
    let places = Arc::new(Semaphore::new(UPLOADS_MAX));
    let mut uploads = JoinSet::new();
    let mut tick = interval(Duration::from_secs(1) / per_second);
    // What a busy machine missed is not made up for.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stopping.load(Ordering::Relaxed) {
        tick.tick().await;
        while uploads.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (fleet, oracle) = (Arc::clone(&fleet), Arc::clone(&oracle));
        uploads.spawn(async move {
            report(&fleet, &oracle, oracle.issue()).await;
            drop(place);
        });
    }
    while uploads.join_next().await.is_some() {}
}

/// Reports one upload. Nobody but OSS repeats it, and only to a second URL.
async fn report(fleet: &Fleet, oracle: &Oracle, upload: Upload) {
    let first = usize::try_from(upload.0).unwrap_or_default() % fleet.gateways.len();
    let second = (first + 1) % fleet.gateways.len();
    if upload.0.is_multiple_of(DOUBLED_EVERY) {
        tokio::join!(send(fleet, oracle, upload, first), send(fleet, oracle, upload, second));
        return;
    }
    let attempt = send(fleet, oracle, upload, first).await;
    if !attempt.is_success() && upload.0.is_multiple_of(SECOND_URL_EVERY) {
        send(fleet, oracle, upload, second).await;
    }
}

async fn send(fleet: &Fleet, oracle: &Oracle, upload: Upload, gateway: usize) -> Attempt {
    let (at, begin) = (oracle.now(), Instant::now());
    let outcome = match fleet.gateways[gateway].process.callbacks() {
        Some(address) => {
            let request = fleet.signer.request(TARGET, FORM, &upload.body());
            match timeout(OSS_PATIENCE, exchange(address, &request)).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) => Outcome::Broken(error.to_string()),
                Err(_) => Outcome::Late,
            }
        }
        None => Outcome::Broken("it does not run".to_owned()),
    };
    let attempt = Attempt { gateway, at, took: begin.elapsed(), outcome };
    oracle.note(upload, attempt.clone());
    attempt
}

async fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Outcome> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    // The connection is closed behind the answer, as the request asks.
    stream.read_to_end(&mut answer).await?;
    let answer = read_answer(&mut answer.as_slice())?;
    let code = if answer.status == 200 { answer.text() } else { answer.error_code() };
    Ok(Outcome::Answered(answer.status, code))
}
