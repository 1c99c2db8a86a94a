//! Connections to the mail server, and which of them are kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use tokio::time::{Instant, sleep, timeout};

use super::{Mail, Security};
use crate::OptionsError;

/// How many connections are kept at most. Servers count them.
const KEPT_MAX: usize = 2;
/// How long a connection is kept for the next mail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to say goodbye.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections to one mail server.
///
/// The library's own pool takes back a connection whose dialogue was dropped in the middle: the answer that it still gets
/// would be taken for the next mail's. Here one is kept only by whoever has had every answer.
pub(super) struct Connections {
    host: String,
    port: u16,
    security: Security,
    tls: TlsParameters,
    credentials: Option<Credentials>,
    kept: Kept,
}

/// Those that are kept, and since when.
type Kept = Arc<Mutex<Vec<(Instant, AsyncSmtpConnection)>>>;

impl Connections {
    /// None so far.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub(super) fn new(mail: &Mail) -> Result<Self, OptionsError> {
        let credentials = mail.credentials.as_ref();
        Ok(Self {
            host: mail.host.clone(),
            port: mail.port.map_or(mail.security.port(), std::num::NonZeroU16::get),
            security: mail.security,
            tls: parameters(mail)?,
            credentials: credentials.map(|known| Credentials::new(known.user.clone(), known.password.clone())),
            kept: Kept::default(),
        })
    }

    /// Takes one that works: one that was kept, or a new one.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(super) async fn take(&self) -> Result<AsyncSmtpConnection, Error> {
        while let Some(mut connection) = self.kept() {
            if connection.test_connected().await {
                return Ok(connection);
            }
        }
        self.connect().await
    }

    /// Keeps one for a while. Every command on it must have been answered.
    pub(super) fn keep(&self, connection: AsyncSmtpConnection) {
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT_MAX {
            return leave(connection);
        }
        kept.push((Instant::now(), connection));
        let kept = Arc::downgrade(&self.kept);
        tokio::spawn(async move {
            sleep(IDLE_TIMEOUT).await;
            if let Some(kept) = kept.upgrade() {
                let mut kept = lock(&kept);
                let old = kept.extract_if(.., |(since, _)| since.elapsed() >= IDLE_TIMEOUT);
                old.for_each(|(_, connection)| leave(connection));
            }
        });
    }

    /// Says goodbye on all that are kept.
    pub(super) async fn close(&self) {
        let kept = std::mem::take(&mut *lock(&self.kept));
        for (_, connection) in kept {
            quit(connection).await;
        }
    }

    fn kept(&self) -> Option<AsyncSmtpConnection> {
        lock(&self.kept).pop().map(|(_, connection)| connection)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let (server, hello) = ((self.host.as_str(), self.port), ClientId::default());
        let tls = (self.security == Security::Tls).then(|| self.tls.clone());
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, None, &hello, tls, None).await?;
        if self.security == Security::StartTls {
            connection.starttls(self.tls.clone(), &hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await?;
        }
        Ok(connection)
    }
}

/// Says goodbye in the background. Every command must have been answered.
pub(super) fn leave(connection: AsyncSmtpConnection) {
    tokio::spawn(quit(connection));
}

async fn quit(mut connection: AsyncSmtpConnection) {
    drop(timeout(QUIT_TIMEOUT, connection.abort()).await);
}

fn lock(kept: &Kept) -> std::sync::MutexGuard<'_, Vec<(Instant, AsyncSmtpConnection)>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parameters(mail: &Mail) -> Result<TlsParameters, OptionsError> {
    let mut builder = TlsParameters::builder(mail.host.clone());
    for authority in &mail.authorities {
        builder = builder.add_root_certificate(Certificate::from_der(authority.to_vec()).map_err(OptionsError::Tls)?);
    }
    builder.build_rustls().map_err(OptionsError::Tls)
}
