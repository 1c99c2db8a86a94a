//! Mail: who gets it, and by which server it goes.

mod connections;
mod html;
mod message;
mod transport;

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use lettre::message::Mailbox;
use upcall_egress::CertificateDer;

#[cfg(test)]
pub(crate) use message::message;
pub(crate) use transport::Transport;

/// How long a server may take to say whether it takes a mail that it has got (RFC 5321 §4.5.3.2.6). Whoever gives up earlier
/// sends the mail again and again that a slow server has taken.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Who gets mail, and by which server it goes.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The server's name or address.
    pub host: String,
    /// Its port; by default the one that goes with `security`.
    pub port: Option<NonZeroU16>,
    /// How the connection is protected.
    pub security: Security,
    /// By whom the server knows us.
    pub credentials: Option<Credentials>,
    /// Authorities that the server's certificate may come from, beside the machine's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Who sends.
    pub from: Address,
    /// Who gets it, all by one mail. At least one.
    pub to: Vec<Address>,
    /// How long one mail may take until the server has got it.
    pub timeout: Duration,
}

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// It begins in the clear and must then be encrypted. Port 587.
    StartTls,
    /// It is encrypted from the start. Port 465.
    Tls,
    /// Not at all. Port 25, for a server on this machine.
    None,
}

/// A user and a password. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A mail address, perhaps with a name: `Upcall <upcall@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Mailbox);

/// Text that is no mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mail address: write `ops@example.com` or `Ops <ops@example.com>`")]
pub struct InvalidAddress(String);

impl Security {
    /// The port that goes with it.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Tls => 465,
            Self::None => 25,
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let is_line = !text.chars().any(char::is_control);
        text.parse().ok().filter(|_| is_line).map(Self).ok_or_else(|| InvalidAddress(text.to_owned()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}
