//! The server's monitoring port: what a client is not told.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::REQUEST_TIME;

/// How much the server may answer; it is a few KB.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Where the server listens unless it is told otherwise.
const PORT: u16 = 8222;

/// What the server tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Monitored {
    /// How soon it syncs its disk after it has acknowledged; zero for before that. `None` where it does not tell.
    pub(super) sync_interval: Option<Duration>,
    /// What JetStream has stored in files, and what it may, in bytes.
    pub(super) storage: Option<(u64, u64)>,
}

impl Monitored {
    /// Asks a monitoring port. The error says in words why it can't be.
    pub(super) async fn ask(url: &str) -> Result<Self, String> {
        let answer = match timeout(REQUEST_TIME, fetch(url)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(format!("{url} does not answer")),
        };
        Ok(Self::read(&answer))
    }

    fn read(jsz: &Value) -> Self {
        let config = &jsz["config"];
        let sync_interval = match config["sync_always"].as_bool() {
            Some(true) => Some(Duration::ZERO),
            _ => config["sync_interval"].as_u64().map(Duration::from_nanos),
        };
        let storage = jsz["storage"].as_u64().zip(config["max_storage"].as_u64());
        Self { sync_interval, storage }
    }
}

/// Asks for `/jsz`, in HTTP/1.0: the answer ends with the connection, and is not in chunks. `/varz` has the same, but lacks
/// the configuration for good if somebody asked for it before JetStream was there.
async fn fetch(url: &str) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("{url} can't be read: {error}");
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url} does not begin with http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
    let mut connection = TcpStream::connect(address).await.map_err(failed)?;
    let path = path.trim_end_matches('/');
    let path = if path.is_empty() { String::new() } else { format!("/{path}") };
    let request = format!("GET {path}/jsz HTTP/1.0\r\nHost: {host}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("{url} answers {:?}", head.lines().next().unwrap_or_default()));
    }
    serde_json::from_str(body).map_err(|_| format!("{url} is no monitoring port of a NATS server"))
}
