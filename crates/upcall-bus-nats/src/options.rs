//! What the bus is told when it is connected.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::tls::Tls;

/// How the bus is reached and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The servers, such as `nats://nats:4222` or `tls://nats:4222`. Any of them leads to the others.
    pub urls: Vec<String>,
    /// Who we are.
    pub auth: Auth,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// The stream of uploads. The names of the others begin with it.
    pub stream: String,
    /// The subjects that the stream of uploads captures. None where a process only consumes: then that stream is left to
    /// those who publish.
    pub subjects: Vec<String>,
    /// How the streams are made where they are missing, and what they are compared with.
    pub streams: StreamOptions,
    /// How long the server waits for a consumer's word about an event before it delivers it again. While a sink is
    /// busy the wait is extended, so this bounds only how soon a consumer that died is noticed.
    pub ack_wait: Duration,
    /// How many events a consumer, all of its processes together, may hold without settling them.
    pub ack_pending_max: u32,
    /// How many events a subscription asks the server for ahead of its reader.
    pub prefetch: u32,
    /// Whether the process may be frozen at any moment, as an instance on Function Compute. Then a publication does not
    /// trust the connection: it waits for one, and makes anew one that is silent, within its deadline.
    pub freezes: bool,
}

/// Who we are, as the server knows us.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    None,
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
    /// The seed of an nkey, `SU…`.
    Nkey(String),
    /// A `.creds` file: a JWT and the seed of its nkey.
    Credentials(PathBuf),
}

/// How the streams are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// How many servers hold each event: 1, 3 or 5.
    pub replicas: usize,
    /// How long events stay. Zero for ever.
    pub age: Duration,
    /// How much the stream of uploads may hold, in bytes; `None` for as much as the account may. A full stream refuses
    /// events, it drops none.
    pub size_bytes: Option<u64>,
    /// For how long the server recognises an event by its id.
    pub duplicate_window: Duration,
    /// How long dead letters and rejected callbacks stay.
    pub dead_age: Duration,
    /// How much rejected callbacks may take, in bytes; the oldest go first.
    pub quarantine_bytes: u64,
}

/// What the server holds in memory for each event in this window is about 250 bytes.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(10 * 60);

impl Options {
    /// The defaults, for a server at this URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            auth: Auth::None,
            tls: Tls::default(),
            stream: "UPCALL".to_owned(),
            subjects: vec!["upcall.uploads.>".to_owned()],
            streams: StreamOptions::default(),
            ack_wait: Duration::from_secs(30),
            ack_pending_max: 4_096,
            prefetch: 512,
            freezes: false,
        }
    }
}

impl Default for StreamOptions {
    /// One replica, seven days, as much as the account may hold, ten minutes of ids; dead letters for 30 days, 256 MiB
    /// of rejected callbacks.
    fn default() -> Self {
        Self {
            replicas: 1,
            age: Duration::from_hours(7 * 24),
            size_bytes: None,
            duplicate_window: DUPLICATE_WINDOW,
            dead_age: Duration::from_hours(30 * 24),
            quarantine_bytes: 256 << 20,
        }
    }
}

impl fmt::Debug for Auth {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => f.debug_struct("Password").field("user", user).finish_non_exhaustive(),
            Self::Token(_) => f.write_str("Token"),
            Self::Nkey(_) => f.write_str("Nkey"),
            Self::Credentials(file) => f.debug_tuple("Credentials").field(file).finish(),
        }
    }
}
