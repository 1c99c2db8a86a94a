//! Why a request got no answer.

use std::error::Error as StdError;
use std::{fmt, io};

use crate::Refused;

/// Whatever is behind an error.
pub type Source = Box<dyn StdError + Send + Sync>;

/// Why a request got no answer. It never shows a URL, which may hold a secret.
#[derive(Debug)]
pub struct Error {
    /// What to branch on.
    pub kind: ErrorKind,
    source: Source,
    /// What to do about it, where that is known.
    remedy: Option<&'static str>,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The endpoint's address may not be called; nothing was sent.
    Refused,
    /// The endpoint's name does not resolve, or nobody answers there; nothing was sent.
    Connect,
    /// No encrypted connection came about, as where the certificate is not trusted; nothing was sent.
    Tls,
    /// The answer did not begin in time. The request may have had its effect.
    Timeout,
    /// The connection broke before the answer began. The request may have had its effect.
    Broken,
    /// The answer can't be understood. The request may have had its effect.
    Other,
}

impl ErrorKind {
    /// Whether nothing was sent, so that the failure says nothing about what would have been.
    #[must_use]
    pub fn is_unsent(self) -> bool {
        matches!(self, Self::Refused | Self::Connect | Self::Tls)
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, source: impl Into<Source>) -> Self {
        let source = source.into();
        let remedy = if kind == ErrorKind::Tls { tls_remedy(&*source) } else { None };
        Self { kind, source, remedy }
    }

    pub(crate) fn from_request(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(refused) = find::<Refused>(&error) {
            return Self::new(ErrorKind::Refused, *refused);
        }
        let kind = match &error {
            error if error.is_connect() && find::<rustls::Error>(error).is_some() => ErrorKind::Tls,
            error if error.is_connect() => ErrorKind::Connect,
            error if error.is_timeout() => ErrorKind::Timeout,
            // Also where it breaks by what can't be decrypted: the request was on its way by then.
            error if find::<io::Error>(error).is_some() || is_cut(error) => ErrorKind::Broken,
            _ => ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            ErrorKind::Refused => "the endpoint's address may not be called",
            ErrorKind::Connect => "the endpoint can't be reached",
            ErrorKind::Tls => "no encrypted connection to the endpoint came about",
            ErrorKind::Timeout => "the endpoint did not answer in time",
            ErrorKind::Broken => "the connection to the endpoint broke before an answer",
            ErrorKind::Other => "the endpoint gave no answer that HTTP knows",
        })?;
        self.remedy.map_or(Ok(()), |remedy| write!(f, " ({remedy})"))
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}

/// What to do about a failure of TLS, as far as its words tell. They are those of `rustls` and `webpki`.
#[must_use]
pub fn tls_remedy(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    const REMEDIES: [(&str, &str); 6] = [
        (
            "CaUsedAsEndEntity",
            "its certificate is that of an authority, not a server's: have the authority issue one for this host, and name the authority in `ca`",
        ),
        ("InvalidContentType", "what answers there does not speak TLS: is it `http://`, or another port?"),
        ("UnknownIssuer", "nobody who is trusted has issued its certificate: name its authority in `ca`"),
        ("BadSignature", "nobody who is trusted has issued its certificate: name its authority in `ca`"),
        (
            "NotValidForName",
            "its certificate is for another name: call it by that name, or have one issued for this one",
        ),
        ("Expired", "its certificate has expired, or a clock is wrong"),
    ];
    let mut next = Some(error);
    while let Some(error) = next {
        let said = format!("{error} {error:?}");
        if let Some((_, remedy)) = REMEDIES.iter().find(|(word, _)| said.contains(word)) {
            return Some(remedy);
        }
        next = error.source();
    }
    None
}

/// Finds an error in a chain, also where an [`io::Error`] wraps it, which then leaves it out of the chain.
fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// Whether the connection was closed in the middle of it. hyper's own type is not in reach, its words are.
fn is_cut(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains("connection closed before message completed") {
            return true;
        }
        next = error.source();
    }
    false
}
