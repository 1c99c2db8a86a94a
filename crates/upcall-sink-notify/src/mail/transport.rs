//! To the mail server.

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials as SmtpCredentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{Error, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::time::timeout;
use upcall_telemetry::error_chain;

use super::message::message;
use super::{Mail, Security};
use crate::OptionsError;
use crate::notice::Notice;
use crate::outcome::Outcome;

/// How many connections there are at most. Servers count them.
const CONNECTIONS_MAX: u32 = 2;
/// How long a connection is kept for the next mail.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Codes of a server that lets nobody in, or not us: RFC 5321 §4.2, RFC 4954 §6, RFC 3207 §4.
const DOWN: &[u16] = &[421, 432, 454, 530, 534, 535, 538];

/// Sends mail by one server.
pub(crate) struct Transport {
    mail: Mail,
    smtp: AsyncSmtpTransport<Tokio1Executor>,
}

impl Transport {
    /// Makes it. Nothing is connected to yet.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub(crate) fn new(mail: Mail) -> Result<Self, OptionsError> {
        let tls = match mail.security {
            Security::StartTls => Tls::Required(parameters(&mail)?),
            Security::Tls => Tls::Wrapper(parameters(&mail)?),
            Security::None => Tls::None,
        };
        let port = mail.port.map_or(mail.security.port(), std::num::NonZeroU16::get);
        let pool = PoolConfig::new().max_size(CONNECTIONS_MAX).idle_timeout(IDLE_TIMEOUT);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(mail.host.as_str())
            .port(port)
            .tls(tls)
            .timeout(Some(mail.timeout))
            .pool_config(pool);
        if let Some(credentials) = &mail.credentials {
            builder = builder.credentials(SmtpCredentials::new(credentials.user.clone(), credentials.password.clone()));
        }
        let smtp = builder.build();
        Ok(Self { mail, smtp })
    }

    /// Connects, encrypts and logs in.
    ///
    /// # Errors
    /// If the server does not let us in.
    pub(crate) async fn test(&self) -> Result<(), upcall_consumer::Source> {
        match timeout(self.mail.timeout, self.smtp.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("the mail server does not answer as one".into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err("the mail server takes too long".into()),
        }
    }

    /// Sends one mail.
    pub(crate) async fn send(&self, notice: &Notice) -> Outcome {
        let message = match message(&self.mail, notice) {
            Ok(message) => message,
            Err(error) => {
                return Outcome::Refused { reason: format!("no mail can be made of it: {}", error_chain(&error)) };
            }
        };
        match timeout(self.mail.timeout, self.smtp.send(message)).await {
            Ok(Ok(_)) => Outcome::Sent,
            Ok(Err(error)) => judge(&error),
            Err(_) => Outcome::Down { reason: "the mail server takes too long".to_owned() },
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.mail.timeout
    }

    pub(crate) async fn close(&self) {
        self.smtp.shutdown().await;
    }
}

fn parameters(mail: &Mail) -> Result<TlsParameters, OptionsError> {
    let mut builder = TlsParameters::builder(mail.host.clone());
    for authority in &mail.authorities {
        builder = builder.add_root_certificate(Certificate::from_der(authority.to_vec()).map_err(OptionsError::Tls)?);
    }
    builder.build_rustls().map_err(OptionsError::Tls)
}

fn judge(error: &Error) -> Outcome {
    let chain = error_chain(error);
    let Some(code) = error.status().map(u16::from) else {
        return Outcome::Down { reason: format!("the mail server can't be reached: {chain}") };
    };
    if DOWN.contains(&code) {
        return Outcome::Down { reason: format!("the mail server lets nobody in: {chain}") };
    }
    if error.is_permanent() {
        return Outcome::Refused { reason: format!("the mail server refuses the mail: {chain}") };
    }
    Outcome::Failed { reason: format!("the mail server did not take the mail: {chain}") }
}
