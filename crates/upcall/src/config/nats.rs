//! `[bus.nats]`: where the broker is, who we are to it, and what it is trusted with.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;
use upcall_bus_nats::{Auth, DUPLICATE_WINDOW_MIN, Options, StreamOptions, Tls, covers};
use upcall_event::SubjectTemplate;

use super::certificates;
use super::reader::Section;
use super::secret;
use super::setting::{Bytes, Count, Setting, word};

/// The distributed bus.
#[derive(Debug, Clone)]
pub(crate) struct Nats {
    pub(crate) options: Options,
    /// When a callback is answered 200.
    pub(crate) ack: Ack,
    /// How long the stream must have held an event before it leaves the journal.
    pub(crate) sync_hold: Duration,
    /// Whether missing streams are made at start.
    pub(crate) provision: bool,
    /// The server's monitoring port, for `upcall doctor`.
    pub(crate) monitor: Option<String>,
}

/// When a callback is answered 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ack {
    /// When the stream has acknowledged the event.
    Broker,
    /// When the journal has it on disk.
    Journal,
}

impl Setting for Ack {
    const KIND: &'static str = "\"broker\" or \"journal\"";

    fn read(value: &Value) -> Result<Self, String> {
        word(value, &[("broker", Self::Broker), ("journal", Self::Journal)])
    }
}

/// One URL, or several of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Urls(Vec<String>);

impl Setting for Urls {
    const KIND: &'static str = "a URL such as \"nats://nats:4222\" or \"tls://nats:4222\", or an array of them";

    fn read(value: &Value) -> Result<Self, String> {
        let urls = match value {
            Value::String(url) => vec![url.clone()],
            other => Vec::<String>::read(other).map_err(|_| format!("takes {}", Self::KIND))?,
        };
        let is_url = |url: &String| ["nats://", "tls://"].iter().any(|scheme| url.starts_with(scheme));
        match urls.iter().find(|url| !is_url(url)) {
            // Not the URL itself, which may hold a password.
            Some(_) => Err(format!("takes {}; begin each with `nats://` or `tls://`", Self::KIND)),
            None if urls.is_empty() => Err(format!("takes {}, and is empty", Self::KIND)),
            None => Ok(Self(urls)),
        }
    }
}

/// Reads `[bus.nats]`. `None` where mistakes leave nothing; they are on record.
pub(super) fn read(mut section: Section<'_>) -> Option<Nats> {
    let urls: Option<Urls> = section.required("url", "The servers: one URL, or an array of several of one cluster.");
    let ack = section.or(
        "ack",
        "broker",
        "When a callback is answered 200: when the stream has acknowledged the event (`broker`; with a journal named, \
         events spill to it when the broker has not answered in half of the time that is left), or when it is on this machine's disk (`journal`; it is \
         relayed in the background, and survives a power failure of the whole cluster).",
    );
    let stream: String = section.or(
        "stream",
        "UPCALL",
        "The name of the stream of uploads. The names of the other streams begin with it.",
    );
    if !stream.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') || stream.is_empty() {
        section.mistake("stream", "can't name a stream: use letters, digits, `_` and `-`");
    }
    let sync_hold = section.or(
        "sync_hold",
        "5m",
        "How long the stream must have held an event before it may leave the journal: more than twice the server's \
         `sync_interval`, which is 2 minutes by default. With `sync_interval: always`, `\"0s\"`.",
    );
    let provision = section.or(
        "provision",
        true,
        "Whether streams and consumers that are missing are made at start. Otherwise `upcall provision` makes them.",
    );
    let monitor = section.optional(
        "monitor",
        "The server's monitoring port, such as `http://nats:8222`, where `upcall doctor` sees `sync_interval`.",
    );
    let auth = read_auth(&mut section);
    let ack_wait: Duration = section.or(
        "ack_wait",
        "30s",
        "How soon the events of a consumer that died go to another one. While a sink is busy it is extended.",
    );
    let ack_pending_max: Count = section.or(
        "ack_pending_max",
        4096,
        "How many events a consumer, all of its processes together, may hold without settling them.",
    );
    let tls = read_tls(section.section("tls", "Encryption. A `tls://` URL alone encrypts, too."));
    let streams = read_streams(
        section.section("streams", "How streams are made, and what `upcall provision --check` compares them with."),
    );
    let defaults = Options::new("");
    let options = Options {
        urls: urls?.0,
        auth: auth?,
        tls,
        stream,
        streams,
        ack_wait,
        ack_pending_max: ack_pending_max.get(),
        ..defaults
    };
    Some(Nats { options, ack, sync_hold, provision, monitor })
}

impl Nats {
    /// Has the stream of uploads capture what these routes publish. Without a route it is left to those who have some.
    pub(super) fn capture<'t>(&mut self, subjects: impl Iterator<Item = &'t SubjectTemplate>) {
        let all_under = |subject: &SubjectTemplate| match subject.prefix() {
            prefix if prefix.ends_with('.') => format!("{prefix}>"),
            whole => whole.to_owned(),
        };
        let mut captured: Vec<String> = subjects.map(all_under).collect();
        captured.sort_unstable();
        captured.dedup();
        // A stream must not capture a subject twice.
        let all = captured.clone();
        captured.retain(|subject| !all.iter().any(|other| other != subject && covers(other, subject)));
        self.options.subjects = captured;
    }
}

/// `None` where the keys contradict each other.
fn read_auth(section: &mut Section<'_>) -> Option<Auth> {
    let user: Option<String> = section.optional("user", "The user, with `password`.");
    let password = secret::optional(
        section,
        "password",
        "The user's password. As every secret it may be `{ env = \"NAME\" }` or `{ file = \"PATH\" }`.",
    );
    let token = secret::optional(section, "token", "A token. May be a table as for `password`.");
    let nkey = secret::optional(section, "nkey", "The seed of an nkey, `SU…`. May be a table as for `password`.");
    let credentials: Option<PathBuf> = section.optional("credentials", "A `.creds` file, relative to this one.");
    match (user, password, token, nkey, credentials) {
        (None, None, None, None, None) => Some(Auth::None),
        (Some(user), Some(password), None, None, None) => Some(Auth::Password { user, password }),
        (None, None, Some(token), None, None) => Some(Auth::Token(token)),
        (None, None, None, Some(seed), None) => Some(Auth::Nkey(seed)),
        (None, None, None, None, Some(file)) => {
            let file = section.resolve(&file);
            section.names_file("credentials", &file);
            Some(Auth::Credentials(file))
        }
        _ => {
            section.mistake_here(
                "authenticates in one way: either `user` with `password`, or `token`, or `nkey`, or `credentials`",
            );
            None
        }
    }
}

fn read_tls(mut section: Section<'_>) -> Tls {
    let required = section.or("required", false, "Whether a server that does not encrypt is refused.");
    let ca: Option<PathBuf> = section.optional(
        "ca",
        "A PEM file of the authorities that the server's certificate may come from, beside the machine's.",
    );
    let certificate: Option<PathBuf> =
        section.optional("certificate", "Our own certificate in PEM, where the server asks for one; with `key`.");
    let key: Option<PathBuf> = section.optional("key", "The certificate's private key in PEM.");
    let authorities = ca.and_then(|file| certificates::authorities(&section, "ca", &file)).unwrap_or_default();
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => certificates::identity(&section, &certificate, &key),
        (None, None) => None,
        _ => {
            section.mistake_here("takes `certificate` and `key` together");
            None
        }
    };
    Tls { required, authorities, identity }
}

fn read_streams(mut section: Section<'_>) -> StreamOptions {
    let replicas: Count = section.or("replicas", 1, "How many servers hold each event: 1, 3 or 5.");
    if ![1, 3, 5].contains(&replicas.get()) {
        section.mistake("replicas", "takes 1, 3 or 5");
    }
    let age = section.or("age", "7d", "How long events stay. `\"0s\"` for ever.");
    let size: Option<Bytes> = section.optional(
        "size",
        "How much the stream of uploads may hold. A full stream refuses events, it drops none. By default as much as \
         the account may.",
    );
    let duplicate_window = section.or(
        "duplicate_window",
        "10m",
        "For how long the server recognises an event by its id. Each event in it takes about 250 bytes of memory there.",
    );
    if duplicate_window < DUPLICATE_WINDOW_MIN {
        section.mistake("duplicate_window", "is shorter than \"2m\": repeated callbacks could make two events");
    }
    let dead_age = section.or("dead_age", "30d", "How long dead letters and rejected callbacks stay.");
    let Bytes(quarantine_bytes) =
        section.or("quarantine_size", "256MiB", "How much rejected callbacks may take; the oldest go first.");
    StreamOptions {
        replicas: replicas.as_usize(),
        age,
        size_bytes: size.map(|Bytes(bytes)| bytes),
        duplicate_window,
        dead_age,
        quarantine_bytes,
    }
}
