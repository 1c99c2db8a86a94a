//! To the mail server.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lettre::Message;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{Extension, MailParameter};
use tokio::time::{Instant, timeout, timeout_at};
use upcall_egress::tls_remedy;
use upcall_telemetry::error_chain;

use super::connections::{Connections, leave};
use super::message::message;
use super::{ANSWER_TIMEOUT, Mail};
use crate::OptionsError;
use crate::notice::Notice;
use crate::outcome::Outcome;

/// Codes of a server that lets nobody in, or not us: RFC 5321 §4.2, RFC 4954 §6, RFC 3207 §4.
const DOWN: &[u16] = &[421, 432, 454, 530, 534, 535, 538];

/// How many mails are remembered that not everybody has got.
const PARTIAL_MAX: usize = 100;

/// Sends mail by one server.
pub(crate) struct Transport {
    mail: Mail,
    connections: Connections,
    /// Who has got a mail that others are still to get, by its id; the oldest first.
    partial: Mutex<VecDeque<(String, BTreeSet<String>)>>,
    /// Of which addresses it was said that the server refuses them.
    refused: Mutex<BTreeSet<String>>,
}

/// Why a mail is not known to be sent.
enum NotSent {
    /// The server said so, or can't be reached, before it got the mail.
    Begun(Error),
    /// It takes too long before it gets the mail.
    TooLong,
    /// It does not know addresses such as these (RFC 6531).
    Addresses,
    /// It got the mail, and said so, or the connection broke: the mail may be the reason, and it may be on its way.
    Got(Error),
    /// It got the mail, and says nothing.
    Unanswered,
}

impl Transport {
    /// Makes it. Nothing is connected to yet.
    ///
    /// # Errors
    /// If TLS can't be set up.
    pub(crate) fn new(mail: Mail) -> Result<Self, OptionsError> {
        let connections = Connections::new(&mail)?;
        Ok(Self { mail, connections, partial: Mutex::default(), refused: Mutex::default() })
    }

    /// Connects, encrypts and logs in.
    ///
    /// # Errors
    /// If the server does not let us in.
    pub(crate) async fn test(&self) -> Result<(), upcall_consumer::Source> {
        match timeout(self.mail.timeout, self.connections.take()).await {
            Ok(Ok(connection)) => {
                self.connections.keep(connection);
                Ok(())
            }
            Ok(Err(error)) => Err(format!("{}: {}", self.server(), self.in_words(&error)).into()),
            Err(_) => Err(format!("{} takes too long", self.server()).into()),
        }
    }

    /// Sends one mail. A server that has all of it may take long to say what becomes of it, if there is time until then.
    pub(crate) async fn send(&self, notice: &Notice, deadline: Instant) -> Outcome {
        let message = match message(&self.mail, notice) {
            Ok(message) => message,
            Err(error) => {
                return Outcome::Refused { reason: format!("no mail can be made of it: {}", error_chain(&error)) };
            }
        };
        self.send_to_all(&notice.id, &message, deadline).await
    }

    /// Sends it to everybody at once, and to each alone where the server refuses that: one mailbox that is no more must
    /// not silence the others. A refusal is of the whole, so that nobody gets it twice.
    async fn send_to_all(&self, id: &str, message: &Message, deadline: Instant) -> Outcome {
        let (envelope, bytes) = (message.envelope(), message.formatted());
        let mut reached = self.reached(id);
        if reached.is_empty() {
            match self.send_raw(envelope, &bytes, deadline).await {
                Ok(()) => return Outcome::Sent,
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
            match self.send_raw(&alone, &bytes, deadline).await.map_err(|error| self.judge(&error, &to)) {
                Ok(()) => drop(reached.insert(to[0].to_string())),
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

    async fn send_raw(&self, envelope: &Envelope, bytes: &[u8], deadline: Instant) -> Result<(), NotSent> {
        let begun = timeout(self.mail.timeout, self.begin(envelope)).await;
        let mut connection = begun.unwrap_or(Err(NotSent::TooLong))?;
        match timeout_at(deadline.min(Instant::now() + ANSWER_TIMEOUT), connection.message(bytes)).await {
            Ok(Ok(_)) => {
                self.connections.keep(connection);
                Ok(())
            }
            Ok(Err(error)) => {
                if error.status().is_some() {
                    leave(connection);
                }
                Err(NotSent::Got(error))
            }
            Err(_) => Err(NotSent::Unanswered),
        }
    }

    /// Says who sends and who gets it, up to where the mail itself is to follow.
    async fn begin(&self, envelope: &Envelope) -> Result<AsyncSmtpConnection, NotSent> {
        let mut connection = self.connections.take().await.map_err(NotSent::Begun)?;
        match announce(&mut connection, envelope).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                if !matches!(&error, NotSent::Begun(error) if error.status().is_none()) {
                    leave(connection);
                }
                Err(error)
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

    fn judge(&self, error: &NotSent, to: &[lettre::Address]) -> Outcome {
        let server = self.server();
        let error = match error {
            NotSent::TooLong => return Outcome::Down { reason: format!("{server} takes too long") },
            NotSent::Addresses => {
                return Outcome::Down { reason: format!("{server} does not know addresses beyond ASCII") };
            }
            NotSent::Unanswered => {
                return Outcome::Failed {
                    reason: format!("{server} got the mail, and did not say in time whether it takes it"),
                };
            }
            NotSent::Begun(error) => {
                let chain = self.in_words(error);
                match error.status().map(u16::from) {
                    None => return Outcome::Down { reason: format!("{server} can't be reached: {chain}") },
                    Some(code) if DOWN.contains(&code) => {
                        return Outcome::Down { reason: format!("{server} lets nobody in: {chain}") };
                    }
                    Some(_) => error,
                }
            }
            NotSent::Got(error) => error,
        };
        let (chain, to) = (self.in_words(error), to.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        if error.is_permanent() {
            return Outcome::Refused { reason: format!("{server} refuses the mail to {to}: {chain}") };
        }
        Outcome::Failed { reason: format!("{server} did not take the mail to {to}: {chain}") }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.mail.timeout
    }

    pub(crate) async fn close(&self) {
        self.connections.close().await;
    }
}

async fn announce(connection: &mut AsyncSmtpConnection, envelope: &Envelope) -> Result<(), NotSent> {
    let mut parameters = Vec::new();
    let is_ascii = |address: &lettre::Address| address.to_string().is_ascii();
    if !envelope.from().into_iter().chain(envelope.to()).all(is_ascii) {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(NotSent::Addresses);
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    connection.command(MailFrom::new(envelope.from().cloned(), parameters)).await.map_err(NotSent::Begun)?;
    for to in envelope.to() {
        connection.command(Rcpt::new(to.clone(), Vec::new())).await.map_err(NotSent::Begun)?;
    }
    connection.command(Data).await.map_err(NotSent::Begun)?;
    Ok(())
}
