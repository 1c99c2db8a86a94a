//! Making a connection: who we are, how it is encrypted, and what is said when it can't be made.

use std::path::Path;
use std::time::Duration;

use async_nats::{ClientError, ConnectOptions, Event, Server, ServerAddr};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;
use tracing::{info, warn};
use upcall_bus::Source;

use crate::connection::{ACKS_PENDING_MAX, Link, REQUEST_TIME};
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
    /// Something else about the options, such as a seed that is none or a certificate that can't be read.
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

pub(crate) async fn connect_options(options: &Options, urls: &[ServerAddr]) -> Result<ConnectOptions, ConnectError> {
    let connect = match &options.auth {
        Auth::None => by_url(urls),
        Auth::Password { user, password } => ConnectOptions::new().user_and_password(user.clone(), password.clone()),
        Auth::Token(token) => ConnectOptions::new().token(token.clone()),
        Auth::Nkey(seed) => ConnectOptions::new().nkey(seed.clone()),
        Auth::Credentials(file) => {
            ConnectOptions::new().credentials_file(file).await.map_err(|source| unusable(file, source))?
        }
    };
    let identity = options.tls.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    for file in options.tls.ca.iter().chain(identity) {
        // They are read at each connection; a name that is wrong should show now.
        tokio::fs::File::open(file).await.map_err(|source| unusable(file, source))?;
    }
    let mut connect = connect
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
        .require_tls(options.tls.required);
    if let Some(ca) = &options.tls.ca {
        connect = connect.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &options.tls.identity {
        connect = connect.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(connect)
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
            });
        }
        Event::Disconnected | Event::Closed => {
            warn!("the connection to NATS is gone");
            link.send_modify(|link| link.connected = false);
        }
        // Known in more detail before the next attempt.
        Event::ClientError(ClientError::Other(_)) if link.borrow().fault.is_some() => {}
        other => note_fault(link, other.to_string()),
    }
}

/// Says why each server could not be connected to.
pub(crate) fn note_failures(link: &watch::Sender<Link>, servers: &[Server]) {
    let failure = |server: &Server| {
        let error = server.last_error.as_ref()?;
        Some(format!("{}:{}: {}", server.addr.host(), server.addr.port(), in_words(error)))
    };
    let failures: Vec<String> = servers.iter().filter_map(failure).take(SERVERS_NAMED_MAX).collect();
    if !failures.is_empty() {
        note_fault(link, failures.join("; "));
    }
}

/// Adds what an operator may make of an error that says little by itself.
fn in_words(error: &str) -> String {
    let hint = [
        (
            "authorization violation",
            "the server does not let us in with this user, password, token, nkey or credentials",
        ),
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

fn note_fault(link: &watch::Sender<Link>, fault: String) {
    if link.borrow().fault.as_ref() != Some(&fault) {
        warn!(%fault, "NATS");
        link.send_modify(|link| link.fault = Some(fault));
    }
}
