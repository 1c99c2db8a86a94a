//! To the mail server.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials as SmtpCredentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{Error, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use tokio::time::timeout;
use upcall_egress::tls_remedy;
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

/// How many mails are remembered that not everybody has got.
const PARTIAL_MAX: usize = 100;

/// Sends mail by one server.
pub(crate) struct Transport {
    mail: Mail,
    smtp: AsyncSmtpTransport<Tokio1Executor>,
    /// Who has got a mail that others are still to get, by its id; the oldest first.
    partial: Mutex<VecDeque<(String, BTreeSet<String>)>>,
    /// Of which addresses it was said that the server refuses them.
    refused: Mutex<BTreeSet<String>>,
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
        Ok(Self { mail, smtp, partial: Mutex::default(), refused: Mutex::default() })
    }

    /// Connects, encrypts and logs in.
    ///
    /// # Errors
    /// If the server does not let us in.
    pub(crate) async fn test(&self) -> Result<(), upcall_consumer::Source> {
        match timeout(self.mail.timeout, self.smtp.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(format!("{} does not answer as a mail server", self.server()).into()),
            Ok(Err(error)) => Err(format!("{}: {}", self.server(), self.in_words(&error)).into()),
            Err(_) => Err(format!("{} takes too long", self.server()).into()),
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
        match timeout(self.mail.timeout, self.send_to_all(&notice.id, &message)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Down { reason: format!("{} takes too long", self.server()) },
        }
    }

    /// Sends it to everybody at once, and to each alone where the server refuses that: one mailbox that is no more must
    /// not silence the others. A refusal is of the whole, so that nobody gets it twice.
    async fn send_to_all(&self, id: &str, message: &Message) -> Outcome {
        let (envelope, bytes) = (message.envelope(), message.formatted());
        let mut reached = self.reached(id);
        if reached.is_empty() {
            match self.smtp.send_raw(envelope, &bytes).await {
                Ok(_) => return Outcome::Sent,
                Err(error) => match self.judge(&error, envelope.to()) {
                    Outcome::Refused { .. } if envelope.to().len() > 1 => {}
                    outcome => return outcome,
                },
            }
        }
        let (mut refusals, mut failure) = (Vec::new(), None);
        for address in envelope.to() {
            if reached.contains(&address.to_string()) {
                continue;
            }
            let to = vec![address.clone()];
            let Ok(alone) = Envelope::new(envelope.from().cloned(), to.clone()) else { continue };
            match self.smtp.send_raw(&alone, &bytes).await.map_err(|error| self.judge(&error, &to)) {
                Ok(_) => drop(reached.insert(to[0].to_string())),
                Err(Outcome::Refused { reason }) => refusals.push((to[0].to_string(), reason)),
                Err(outcome) => {
                    failure = Some(outcome);
                    break;
                }
            }
            self.remember(id, &reached);
        }
        match (failure, refusals) {
            (Some(outcome), _) => outcome,
            (None, refusals) if reached.is_empty() => {
                let reasons: Vec<String> = refusals.into_iter().map(|(_, reason)| reason).collect();
                Outcome::Refused { reason: reasons.join("; ") }
            }
            (None, refusals) => {
                refusals.into_iter().for_each(|(address, reason)| self.warn(address, &reason));
                self.forget(id);
                Outcome::Sent
            }
        }
    }

    /// Says once of an address that the server refuses it.
    fn warn(&self, address: String, reason: &str) {
        if self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(address.clone()) {
            tracing::warn!(address, reason, "the mail server refuses one who is to be told: the others get their mail");
        }
    }

    fn reached(&self, id: &str) -> BTreeSet<String> {
        let partial = self.partial();
        partial.iter().find(|(known, _)| known == id).map(|(_, reached)| reached.clone()).unwrap_or_default()
    }

    fn remember(&self, id: &str, reached: &BTreeSet<String>) {
        self.forget(id);
        let mut partial = self.partial();
        partial.push_back((id.to_owned(), reached.clone()));
        if partial.len() > PARTIAL_MAX {
            partial.pop_front();
        }
    }

    fn forget(&self, id: &str) {
        self.partial().retain(|(known, _)| known != id);
    }

    fn partial(&self) -> MutexGuard<'_, VecDeque<(String, BTreeSet<String>)>> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server, as it is named to people.
    fn server(&self) -> String {
        let Mail { host, port, security, .. } = &self.mail;
        let port = port.map_or(security.port(), std::num::NonZeroU16::get);
        if host.contains(':') {
            format!("the mail server [{host}]:{port}")
        } else {
            format!("the mail server {host}:{port}")
        }
    }

    /// What went wrong, and what to do about it where that is known.
    fn in_words(&self, error: &Error) -> String {
        let chain = error_chain(error);
        let remedy = if chain.contains("STARTTLS is not supported") {
            let here = "or `security = \"none\"` for one on this machine";
            Some(format!("it offers no STARTTLS: choose `security = \"tls\"` and its port, {here}"))
        } else {
            tls_remedy(error).map(str::to_owned)
        };
        remedy.map_or(chain.clone(), |remedy| format!("{chain} ({remedy})"))
    }

    fn judge(&self, error: &Error, to: &[lettre::Address]) -> Outcome {
        let (server, chain) = (self.server(), self.in_words(error));
        let Some(code) = error.status().map(u16::from) else {
            return Outcome::Down { reason: format!("{server} can't be reached: {chain}") };
        };
        if DOWN.contains(&code) {
            return Outcome::Down { reason: format!("{server} lets nobody in: {chain}") };
        }
        let to: Vec<String> = to.iter().map(ToString::to_string).collect();
        let to = to.join(", ");
        if error.is_permanent() {
            return Outcome::Refused { reason: format!("{server} refuses the mail to {to}: {chain}") };
        }
        Outcome::Failed { reason: format!("{server} did not take the mail to {to}: {chain}") }
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
