//! `[gateway]`: where callbacks arrive, and what is allowed to arrive.

use std::net::SocketAddr;
use std::time::Duration;

use toml::Value;
use upcall_gateway::{InvalidNetwork, Limits, Network, OriginalTarget, ShutdownOptions};

use super::reader::Section;
use super::setting::{Bytes, Count};

/// Where the gateway listens, and its bounds.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) health: Option<SocketAddr>,
    pub(crate) original_target: Option<OriginalTarget>,
    pub(crate) limits: Limits,
    pub(crate) shutdown: ShutdownOptions,
}

/// How long OSS waits for an answer. Source: Alibaba Cloud OSS API reference, Callback.
const OSS_PATIENCE: Duration = Duration::from_secs(5);

/// Reads `[gateway]`.
pub(super) fn read(mut section: Section<'_>) -> Gateway {
    let listen: SocketAddr = section.or("listen", "0.0.0.0:8080", "Where callbacks arrive. Port 0 takes a free one.");
    let admin = section.or(
        "admin",
        "127.0.0.1:9090",
        "Where `/live`, `/ready`, `/metrics`, `/rejections`, `/config` and `/log` are served. Keep it off the internet.",
    );
    let health: Option<SocketAddr> = section.optional(
        "health",
        "Where `/live` and `/ready` are served once more, and nothing else: for a load balancer that must not reach the admin \
         port. They say whether, and not why. By default nowhere.",
    );
    let is_taken = |by: SocketAddr, other: SocketAddr| by == other && by.port() != 0;
    if is_taken(listen, admin) {
        section.mistake("admin", "is where callbacks arrive already: give it a port of its own");
    }
    if health.is_some_and(|health| is_taken(health, listen) || is_taken(health, admin)) {
        section.mistake("health", "is where callbacks arrive, or the admin port, already: give it a port of its own");
    }
    let budget = section.or(
        "deadline",
        "4500ms",
        "How long a callback may take in all, from the arrival of its head. OSS gives up after 5 seconds.",
    );
    if budget >= OSS_PATIENCE {
        section
            .mistake("deadline", "leaves no time for the way back: OSS gives up after 5 s. Choose at most \"4900ms\"");
    }
    let limits = read_limits(
        section.section("limits", "What the gateway takes on. Beyond it, callers are turned away at once."),
        budget,
    );
    let mut shutdown = section.section("shutdown", "How it shuts down on SIGTERM or SIGINT.");
    let grace = shutdown.or(
        "grace",
        "0s",
        "How long it says that it is not ready, and still accepts, so that load balancers notice.",
    );
    let drain = shutdown.or("drain", "5s", "How long callbacks under way may then take to finish.");
    let original = section.optional_section(
        "forwarded_target",
        "For proxies that rewrite paths: a header with the target that OSS called.",
    );
    Gateway {
        listen,
        admin,
        health,
        original_target: original.and_then(read_original),
        limits,
        shutdown: ShutdownOptions { grace, drain },
    }
}

fn read_limits(mut section: Section<'_>, budget: Duration) -> Limits {
    let defaults = Limits::default();
    let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let mut bytes = |key, default, doc| {
        let Bytes(bytes) = section.or(key, default, doc);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    };
    let head_bytes_max = bytes("head", "16KiB", "The longest request line with headers. OSS sends about 1 KB.");
    let body_bytes_max = bytes(
        "body",
        "128KiB",
        "The longest body. OSS fills a template of 5 KB at most in; usual bodies have less than 2 KB.",
    );
    if head_bytes_max < 8192 {
        section.mistake("head", "is less than the 8KiB that a request may need");
    }
    let mut count = |key, default, doc| section.or::<Count>(key, default, doc);
    let callbacks_max = count(
        "callbacks",
        number(defaults.callbacks_max),
        "Callbacks at a time, but those that wait for their route's service. One more is answered 503 at once.",
    )
    .as_usize();
    let connections_max = count(
        "connections",
        number(defaults.connections_max),
        "Connections at a time. One more is turned away at once.",
    )
    .as_usize();
    let log_lines_per_second = count(
        "log_lines_per_second",
        i64::from(defaults.log_lines_per_second),
        "Lines a second that refusals may write to the log; the rest is counted.",
    )
    .get();
    let head_time = section.or(
        "head_time",
        "5s",
        "How long a request's head may take to arrive, and how long a kept connection may be idle.",
    );
    let body_time = section.or("body_time", "3s", "How long a body may take to arrive.");
    Limits {
        head_bytes_max,
        body_bytes_max,
        callbacks_max,
        connections_max,
        head_time,
        body_time,
        budget,
        log_lines_per_second,
    }
}

/// The networks that a key names. Those that are none are on record.
pub(super) fn networks(section: &Section<'_>, key: &str, names: Vec<String>) -> Vec<Network> {
    let read = |name: String| name.parse().map_err(|error: InvalidNetwork| section.mistake(key, error.to_string()));
    names.into_iter().filter_map(|name| read(name).ok()).collect()
}

fn read_original(mut section: Section<'_>) -> Option<OriginalTarget> {
    let header: Option<String> = section.required("header", "The header's name, such as `X-Original-URI`.");
    let from: Vec<String> = section.or("from", Value::Array(Vec::new()), "The addresses of the proxies that are believed, such as `[\"10.0.0.0/8\"]`. Of anybody else the header is ignored.");
    if from.is_empty() {
        section.mistake("from", "names no proxy, so the header would never be believed");
    }
    let proxies = networks(&section, "from", from);
    match header?.parse() {
        Ok(header) => Some(OriginalTarget { header, proxies }),
        Err(_) => {
            section.mistake("header", "is no header's name");
            None
        }
    }
}
