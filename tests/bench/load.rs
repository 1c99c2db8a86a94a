//! The load: so many connections, each sending the next request as soon as the last one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How a load is put on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) target: SocketAddr,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Whether a connection serves one request, as OSS does it.
    pub(crate) close: bool,
    /// For how long, unless the requests run out before.
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Answers with status 200 per second.
    pub(crate) rate: f64,
    /// Answers with another status, and connections that broke.
    pub(crate) failures: usize,
    /// The time from the first byte sent (with `close`: from connecting) to the last byte received, ascending.
    latencies_us: Vec<u32>,
}

impl Outcome {
    /// How many answers with status 200 there were.
    pub(crate) fn answers(&self) -> usize {
        self.latencies_us.len()
    }

    /// The latency that this share of the answers stayed within, in milliseconds.
    pub(crate) fn percentile_ms(&self, share: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
        let at = (last as f64 * share).round() as usize;
        self.latencies_us.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }
}

/// Sends each request once, on one thread, until the time is over or none is left.
pub(crate) fn run(load: Load, requests: &Arc<Vec<Vec<u8>>>) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let next = Arc::new(AtomicUsize::new(0));
        let begin = Instant::now();
        let mut connections = JoinSet::new();
        for _ in 0..load.connections {
            connections.spawn(drive(load, begin + load.duration, Arc::clone(requests), Arc::clone(&next)));
        }
        let mut outcome = Outcome::default();
        while let Some(connection) = connections.join_next().await {
            let (latencies_us, failures) = connection?;
            outcome.latencies_us.extend(latencies_us);
            outcome.failures += failures;
        }
        outcome.rate = outcome.latencies_us.len() as f64 / begin.elapsed().as_secs_f64();
        outcome.latencies_us.sort_unstable();
        Ok(outcome)
    })
}

async fn drive(load: Load, end: Instant, requests: Arc<Vec<Vec<u8>>>, next: Arc<AtomicUsize>) -> (Vec<u32>, usize) {
    let (mut latencies_us, mut failures) = (Vec::with_capacity(1 << 14), 0);
    let mut connection = None;
    let mut buffer = vec![0; 16 * 1024];
    while Instant::now() < end {
        let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
        let begin = Instant::now();
        match exchange(&mut connection, load, request, &mut buffer).await {
            Ok(200) => latencies_us.push(u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Ok(_) => failures += 1,
            Err(_) => {
                failures += 1;
                connection = None;
            }
        }
    }
    (latencies_us, failures)
}

async fn exchange(
    connection: &mut Option<TcpStream>,
    load: Load,
    request: &[u8],
    buffer: &mut [u8],
) -> std::io::Result<u16> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(load.target).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    stream.write_all(request).await?;
    let mut filled = 0;
    let status = loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        filled += read;
        if let Some((status, length)) = parse_answer(&buffer[..filled])
            && filled >= length
        {
            break status;
        }
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    if load.close {
        // OSS asks for the connection to be closed; the server does it.
        while stream.read(buffer).await? > 0 {}
    } else {
        *connection = Some(stream);
    }
    Ok(status)
}

/// The status and the whole length of an answer, once its head is there.
fn parse_answer(bytes: &[u8]) -> Option<(u16, usize)> {
    let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&bytes[..head_length]).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let content_length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some((status, head_length + content_length?))
}
