//! Making a connection: who we are, how it is encrypted, and what is said when it can't be made.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{ClientError, ConnectOptions, Event, Server, ServerAddr};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tracing::{info, warn};
use upcall_bus::Source;

use crate::connection::{ACKS_PENDING_MAX, Link, REQUEST_TIME};
use crate::tls::Certificates;
use crate::{Auth, Options};

/// How long a server may take to accept a connection before the next one is tried.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// The longest wait between two attempts to connect: a server that is back should be noticed soon.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the server is asked whether it is still there. A server that hangs is given up after two of these.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How many servers are named in one fault: a large cluster would fill the log.
const SERVERS_NAMED_MAX: usize = 5;

/// What the connection can't be made with, whatever the servers do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A URL is none.
    #[error("{url:?} is no URL of a NATS server: write nats://HOST:PORT or tls://HOST:PORT")]
    Url {
        /// What was given.
        url: String,
    },
    /// A file can't be used.
    #[error("{path} can't be used to connect")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something else about the options, such as a seed that is none.
    #[error("the options of the connection can't be used")]
    Options(#[source] Source),
}

pub(crate) fn addresses(options: &Options) -> Result<Vec<ServerAddr>, ConnectError> {
    let parse = |url: &String| {
        // `host` and `host:port` pass as well; other schemes do not.
        let address = url.parse::<ServerAddr>().ok().filter(|address| !address.host().is_empty());
        address.ok_or_else(|| ConnectError::Url { url: url.clone() })
    };
    options.urls.iter().map(parse).collect()
}

/// Who we are, asked at each connection, so that a secret that was changed is used at the next one.
#[derive(Clone)]
pub(crate) struct Renewed(Arc<Mutex<Auth>>);

impl Renewed {
    pub(crate) fn new(auth: Auth) -> Self {
        Self(Arc::new(Mutex::new(auth)))
    }

    /// False where one kind can't follow the other.
    pub(crate) fn renew(&self, auth: &Auth) -> bool {
        let can_renew = self.can_renew(auth);
        if can_renew {
            self.lock().clone_from(auth);
        }
        can_renew
    }

    /// Whether one can follow the other.
    pub(crate) fn can_renew(&self, auth: &Auth) -> bool {
        let is_asked = |auth: &Auth| matches!(auth, Auth::Password { .. } | Auth::Token(_));
        let known = self.lock();
        *known == *auth || is_asked(&known) && is_asked(auth)
    }

    fn lock(&self) -> MutexGuard<'_, Auth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn login(&self) -> async_nats::Auth {
        let mut login = async_nats::Auth::new();
        match &*self.lock() {
            Auth::Password { user, password } => {
                login.username = Some(user.clone());
                login.password = Some(password.clone());
            }
            Auth::Token(token) => login.token = Some(token.clone()),
            Auth::None | Auth::Nkey(_) | Auth::Credentials(_) => {}
        }
        login
    }
}

pub(crate) async fn connect_options(
    options: &Options,
    urls: &[ServerAddr],
    renewed: &Renewed,
    certificates: &Certificates,
) -> Result<ConnectOptions, ConnectError> {
    let connect = match &options.auth {
        Auth::None => by_url(urls),
        Auth::Password { .. } | Auth::Token(_) => {
            let renewed = renewed.clone();
            ConnectOptions::with_auth_callback(move |_nonce| std::future::ready(Ok(renewed.login())))
        }
        Auth::Nkey(seed) => ConnectOptions::new().nkey(seed.clone()),
        Auth::Credentials(file) => {
            ConnectOptions::new().credentials_file(file).await.map_err(|source| unusable(file, source))?
        }
    };
    let tls = certificates.config().map_err(|error| ConnectError::Options(error.into()))?;
    Ok(connect
        .name("upcall")
        .retry_on_initial_connect()
        .connection_timeout(CONNECT_TIME)
        .ping_interval(PING_EVERY)
        .request_timeout(Some(REQUEST_TIME))
        .subscription_capacity(ACKS_PENDING_MAX)
        .client_capacity(4_096)
        .reconnect_delay_callback(|attempts| {
            let exponent = u32::try_from(attempts.min(8)).unwrap_or(8);
            (Duration::from_millis(20) * 2_u32.pow(exponent)).min(RECONNECT_WAIT_MAX)
        })
        .tls_client_config(tls)
        .require_tls(options.tls.required))
}

/// As the first URL says that has somebody in it, `nats://USER:PASSWORD@HOST` or `nats://TOKEN@HOST`.
fn by_url(urls: &[ServerAddr]) -> ConnectOptions {
    let named = urls.iter().find_map(|url| Some((url.username()?, url.password())));
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match named {
        Some((user, Some(password))) => ConnectOptions::new().user_and_password(decode(user), decode(password)),
        Some((token, None)) => ConnectOptions::new().token(decode(token)),
        None => ConnectOptions::new(),
    }
}

fn unusable(file: &Path, source: std::io::Error) -> ConnectError {
    ConnectError::File { path: file.display().to_string(), source }
}

pub(crate) fn note(link: &watch::Sender<Link>, event: &Event) {
    match event {
        Event::Connected => {
            info!("connected to NATS");
            link.send_modify(|link| {
                link.connected = true;
                link.generation += 1;
                link.fault = None;
                link.refused = false;
            });
        }
        Event::Disconnected | Event::Closed => {
            warn!("the connection to NATS is gone");
            link.send_modify(|link| link.connected = false);
        }
        // Known in more detail before the next attempt.
        Event::ClientError(ClientError::Other(_)) if link.borrow().fault.is_some() => {}
        other => note_fault(link, other.to_string(), false),
    }
}

/// Says why each server could not be connected to.
pub(crate) fn note_failures(link: &watch::Sender<Link>, servers: &[Server], login: &Login) {
    let failure = |server: &Server| {
        let (address, error) = (address(&server.addr), server.last_error.as_ref()?);
        Some(if is_refusal(error) { login.refused(&address, error) } else { format!("{address}: {}", in_words(error)) })
    };
    let failures: Vec<String> = servers.iter().filter_map(failure).take(SERVERS_NAMED_MAX).collect();
    if !failures.is_empty() {
        let is_refused = |server: &Server| server.last_error.as_deref().is_some_and(is_refusal);
        // One that was not tried yet may let us in.
        let refused = servers.iter().any(is_refused) && servers.iter().all(|server| server.last_error.is_some());
        note_fault(link, failures.join("; "), refused);
    }
}

/// Whether a server does not let us in, whatever we wait for.
fn is_refusal(error: &str) -> bool {
    let error = error.to_lowercase();
    ["authorization violation", "authentication expired"].iter().any(|refusal| error.contains(refusal))
}

/// Who we say that we are, for whoever is told that a server does not know us.
#[derive(Debug)]
pub(crate) struct Login {
    who: String,
    keys: &'static str,
}

impl Login {
    pub(crate) fn of(options: &Options, urls: &[ServerAddr]) -> Self {
        let named = |who: String, keys| Self { who, keys };
        let in_url = || urls.iter().find_map(|url| Some((url.username()?, url.password().is_some())));
        match &options.auth {
            Auth::Password { user, .. } => named(format!("of user {user}"), "`user` and `password`"),
            Auth::Token(_) => named("by this token".to_owned(), "`token`"),
            Auth::Nkey(_) => named("by this nkey".to_owned(), "`nkey`"),
            Auth::Credentials(file) => named(format!("by the credentials in {}", file.display()), "`credentials`"),
            Auth::None => match in_url() {
                Some((user, true)) => named(format!("of user {user}"), "the user and the password in `url`"),
                Some((_, false)) => named("by this token".to_owned(), "the token in `url`"),
                None => named(
                    "of somebody without a name".to_owned(),
                    "`user` and `password`, `token`, `nkey` or `credentials`",
                ),
            },
        }
    }

    fn refused(&self, address: &str, error: &str) -> String {
        let Self { who, keys } = self;
        // The client says it twice.
        let error = error.split(": ").next().unwrap_or(error);
        format!(
            "NATS at {address} refused the login {who} ({error}): set {keys} of [bus.nats] to what the server expects"
        )
    }
}

/// Some of the addresses, in words.
pub(crate) fn listed(urls: &[ServerAddr]) -> String {
    urls.iter().take(SERVERS_NAMED_MAX).map(address).collect::<Vec<_>>().join(", ")
}

/// Where a server is, without who we are there.
fn address(url: &ServerAddr) -> String {
    format!("{}:{}", url.host(), url.port())
}

/// Adds what an operator may make of an error that says little by itself.
fn in_words(error: &str) -> String {
    let hint = [
        ("failed signing nonce", "the seed of the nkey is none"),
        ("InvalidContentType", "the server does not speak TLS"),
        ("UnknownIssuer", "the server's certificate is of an authority that is not trusted: name it in `tls.ca`"),
        ("CertificateRequired", "the server asks for a certificate of ours: name it in `tls.certificate`"),
    ];
    match hint.iter().find(|(sign, _)| error.contains(sign)) {
        Some((_, hint)) => format!("{hint} ({error})"),
        None => error.to_owned(),
    }
}

fn note_fault(link: &watch::Sender<Link>, fault: String, refused: bool) {
    let is_known = {
        let link = link.borrow();
        link.fault.as_ref() == Some(&fault) && link.refused == refused
    };
    if !is_known {
        if refused {
            warn!("{fault}");
        } else {
            warn!(%fault, "NATS");
        }
        link.send_modify(|link| (link.fault, link.refused) = (Some(fault), refused));
    }
}
