//! Rejected callbacks on their way to the quarantine: in the background, bounded, and lossy when there are too many.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderName, header};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::warn;
use upcall_bus::{Quarantine, RejectedBody, RejectedCallback};
use upcall_telemetry::error_chain;
use upcall_telemetry::metrics::{Metrics, QuarantineLabels};

use crate::rejections::Rejection;

/// How much of a body is kept: whole what a callbackBody is usually filled in to.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
/// How much of a target, of a header and of a reason is kept.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// How many callbacks of one code are kept at once, and how many a second after that. Each code has its own: a flood of
/// one kind, which anybody can send, must not keep the others out.
const BURST: f64 = 50.0;
const PER_SECOND: f64 = 1.0;
/// How many callbacks wait for the bus; with the largest bodies they take 16 MiB.
const WAITING_MAX: usize = 256;
/// How many are written at once.
const BATCH: usize = 32;
/// How soon is tried again what the bus did not take.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a write may take.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// How long what waits at the end may take.
pub(crate) const LAST_TIME: Duration = Duration::from_secs(2);

/// The headers that are kept: those of OSS, and those that say how the request came here.
const HEADERS: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
];
const HEADER_PREFIXES: [&str; 3] = ["x-oss-", "x-forwarded-", "content-md5"];
/// How many headers are kept.
const HEADERS_MAX: usize = 32;

/// Where callbacks are put that go into quarantine. Never waits.
pub(crate) struct Intake {
    waiting: Sender<RejectedCallback>,
    allowances: Mutex<HashMap<&'static str, Allowance>>,
    metrics: Metrics,
    added: AtomicU64,
    written: watch::Receiver<u64>,
}

/// Writes what was put there, on a task of its own.
pub(crate) struct Keeper {
    waiting: Receiver<RejectedCallback>,
    quarantine: Arc<dyn Quarantine>,
    metrics: Metrics,
    written: watch::Sender<u64>,
}

/// Both ends.
pub(crate) fn open(quarantine: Arc<dyn Quarantine>, metrics: &Metrics) -> (Intake, Keeper) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    for outcome in ["kept", "limited", "overflowed"] {
        count(metrics, outcome, 0);
    }
    let (written, seen) = watch::channel(0);
    let (metrics, allowances) = (metrics.clone(), Mutex::default());
    let keeper = Keeper { waiting: receiver, quarantine, metrics: metrics.clone(), written };
    (Intake { waiting: sender, allowances, metrics, added: AtomicU64::new(0), written: seen }, keeper)
}

impl Intake {
    /// Has a callback kept, unless too many of its kind came or too many wait.
    pub(crate) fn add(&self, rejection: &Rejection, parts: &Parts, body: Option<&Body>) {
        let is_allowed = {
            let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
            allowances.entry(rejection.code).or_insert_with(Allowance::new).take(Instant::now())
        };
        if !is_allowed {
            return count(&self.metrics, "limited", 1);
        }
        let Ok(place) = self.waiting.try_reserve() else { return count(&self.metrics, "overflowed", 1) };
        self.added.fetch_add(1, Ordering::Relaxed);
        place.send(rejected(rejection, parts, body));
    }

    /// Waits until all that was added before is written.
    pub(crate) async fn written(&self) {
        let added = self.added.load(Ordering::Relaxed);
        // A keeper that is gone writes nothing more.
        let _ = self.written.clone().wait_for(|written| *written >= added).await;
    }
}

impl Keeper {
    /// Writes until `stop`, and then what waits. What the bus does not take is tried until it does; whoever comes
    /// meanwhile waits, or overflows.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) {
        let Self { waiting, quarantine, metrics, written } = &mut self;
        let mut stop = pin!(stop.fuse());
        let mut batch = Vec::new();
        let mut failing = false;
        loop {
            if batch.is_empty() {
                tokio::select! {
                    count = waiting.recv_many(&mut batch, BATCH) => if count == 0 { return },
                    () = &mut stop => waiting.close(),
                }
                continue;
            }
            let error = match timeout(WRITE_TIME, quarantine.quarantine(&batch)).await {
                Ok(Ok(())) => {
                    failing = false;
                    count(metrics, "kept", batch.len());
                    written.send_modify(|written| *written += batch.len() as u64);
                    batch.clear();
                    continue;
                }
                Ok(Err(error)) => error_chain(&error),
                Err(_) => "the bus does not answer".to_owned(),
            };
            if !failing {
                failing = true;
                warn!("rejected callbacks can't be put into quarantine for now: {error}");
            }
            sleep(AGAIN).await;
        }
    }
}

fn count(metrics: &Metrics, outcome: &'static str, number: usize) {
    metrics.quarantine.get_or_create_owned(&QuarantineLabels { outcome }).inc_by(number as u64);
}

/// How many more may be kept. It fills up with time.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self { left: BURST, at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        (self.left, self.at) = ((self.left + more).min(BURST), now);
        let is_enough = self.left >= 1.0;
        if is_enough {
            self.left -= 1.0;
        }
        is_enough
    }
}

/// A body as far as it may be kept.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    beginning: Bytes,
    length: usize,
}

impl Body {
    pub(crate) fn of(body: &Bytes) -> Self {
        let beginning = match body.len() {
            0..=BODY_BYTES_MAX => body.clone(),
            // Not a part of it, which would hold on to the whole.
            _ => Bytes::copy_from_slice(&body[..BODY_BYTES_MAX]),
        };
        Self { beginning, length: body.len() }
    }
}

fn rejected(rejection: &Rejection, parts: &Parts, body: Option<&Body>) -> RejectedCallback {
    RejectedCallback {
        time: rejection.time,
        code: rejection.code.to_owned(),
        reason: clipped(&rejection.reason),
        route: rejection.route.clone(),
        request_id: rejection.request_id.clone(),
        peer: rejection.peer.to_string(),
        method: clipped(parts.method.as_str()),
        target: clipped(&parts.uri.to_string()),
        headers: headers(parts),
        body: body.map(|body| RejectedBody { bytes: body.beginning.to_vec(), length: body.length as u64 }),
    }
}

/// The headers that explain a callback. Not cookies, nor what else an application's own clients send.
fn headers(parts: &Parts) -> BTreeMap<String, String> {
    let is_kept = |name: &HeaderName| {
        HEADERS.contains(name) || HEADER_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in parts.headers.iter().filter(|(name, _)| is_kept(name)) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = if name == header::AUTHORIZATION { signature(&value) } else { clipped(&value) };
        // One that came twice is shown so: it may be why.
        if let Some(known) = kept.get_mut(name.as_str()) {
            *known = clipped(&format!("{known}, {value}"));
        } else if kept.len() < HEADERS_MAX {
            kept.insert(name.as_str().to_owned(), value);
        }
    }
    kept
}

/// OSS's signature is no secret, and is Base64 alone. What has another form may be somebody's password.
fn signature(value: &str) -> String {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    if value.bytes().all(is_base64) { clipped(value) } else { "(not a signature; not kept)".to_owned() }
}

fn clipped(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_flood_is_let_in_by_the_second_and_each_code_has_its_share() {
        let mut allowance = Allowance::new();
        let begin = allowance.at;
        let mut taken = |ms| (0..200).filter(|_| allowance.take(begin + Duration::from_millis(ms))).count();
        assert_eq!([0, 500, 1_000, 3_000].map(&mut taken), [50, 0, 1, 2]);
        assert_eq!(taken(3_600_000), 50, "what was not used does not add up");
    }

    #[test]
    fn headers_that_explain_are_kept_and_secrets_are_not() {
        let request = Request::builder()
            .header("x-oss-bucket", "examplebucket")
            .header("x-oss-bucket", "other")
            .header(
                "authorization",
                "kKQeGTRccDKyHB3H9vF+xYMSrmhMZjzzl2/kdD1ktNVgbWEfYTQG0G2SU/RaHBovRCE8OkQDjC3uG33esH2t9A==",
            )
            .header("cookie", "session=secret")
            .header("x-api-key", "secret")
            .body(());
        let (parts, ()) = request.unwrap().into_parts();
        let kept = headers(&parts);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["authorization", "x-oss-bucket"]);
        assert_eq!(kept["x-oss-bucket"], "examplebucket, other");
        assert!(kept["authorization"].starts_with("kKQeGTRccDKyHB3H9vF+"));
        let (parts, ()) = Request::builder().header("authorization", "Bearer secret").body(()).unwrap().into_parts();
        assert!(!headers(&parts)["authorization"].contains("secret"));
    }
}
