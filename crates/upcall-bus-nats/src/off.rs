//! JetStream that is off, in plain words.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    AccountError, AccountErrorKind, GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use upcall_bus::{ArchiveError, Source};

use crate::NatsBus;

/// Where JetStream is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Off {
    /// On the server: nobody there answers its questions.
    Server,
    /// For our account.
    Account,
}

impl Off {
    pub(crate) fn of_account(error: &AccountError) -> Option<Self> {
        match error.kind() {
            AccountErrorKind::JetStreamUnavailable => Some(Self::Server),
            AccountErrorKind::JetStream(error) => Self::of_code(error.error_code()),
            _ => None,
        }
    }

    pub(crate) fn of_stream(error: &GetStreamError) -> Option<Self> {
        match error.kind() {
            GetStreamErrorKind::JetStream(error) => Self::of_code(error.error_code()),
            GetStreamErrorKind::Request => Self::of_request(std::error::Error::source(error)?.downcast_ref()?),
            _ => None,
        }
    }

    pub(crate) fn of_request(error: &RequestError) -> Option<Self> {
        (error.kind() == RequestErrorKind::NoResponders).then_some(Self::Server)
    }

    pub(crate) fn of_code(code: ErrorCode) -> Option<Self> {
        match code {
            ErrorCode::JETSTREAM_NOT_ENABLED => Some(Self::Server),
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => Some(Self::Account),
            _ => None,
        }
    }
}

impl NatsBus {
    /// Says that JetStream is off there, and what to do about it.
    pub(crate) fn says_off(&self, off: Off) -> String {
        let server = self.server_name();
        match off {
            Off::Server => format!(
                "JetStream is off on server {server}: add `jetstream {{ store_dir: \"…\" }}` to its configuration"
            ),
            Off::Account => format!(
                "JetStream is off for our account on server {server}: add `jetstream: enabled` to that account in the \
                 server's configuration"
            ),
        }
    }

    /// An error of the server's, with what to do about it where JetStream is off.
    pub(crate) fn explained(&self, off: Option<Off>, error: impl Into<Source>) -> ArchiveError {
        match off {
            Some(off) => ArchiveError::new(self.says_off(off)),
            None => ArchiveError::new(error),
        }
    }
}
