//! The handle.

use std::sync::Arc;

use async_trait::async_trait;
use upcall_bus::{
    Bus, ConsumerSpec, Deadline, Message, PublishError, PublishErrorKind, Publisher, Receipt, SubscribeError,
    SubscribeErrorKind, Subscription,
};

use crate::{OpenError, Options, ReadError, Status};

/// The embedded bus. A clone is the same journal.
#[derive(Debug, Clone)]
pub struct Journal {
    options: Arc<Options>,
}

impl Journal {
    /// Opens the journal in a folder, making it if there is none. Reads and writes files: may block for a while.
    ///
    /// # Errors
    /// If another process has it open, or its files are foreign, newer or damaged.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        Ok(Self { options: Arc::new(options) })
    }

    /// Why the last attempt to write failed; `None` while the journal takes events. Cheap.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        None
    }

    /// Tells how the journal and its consumers are doing. Reads files: not for a thread that must not block.
    ///
    /// # Errors
    /// If the journal can't be read.
    pub fn status(&self) -> Result<Status, ReadError> {
        let reader = crate::Reader::open(&self.options.folder).map_err(|source| ReadError { source: source.into() })?;
        Ok(Status {
            fault: self.fault(),
            last_sequence: reader.last_sequence()?,
            size_bytes: reader.size_bytes(),
            consumers: reader.consumers()?,
        })
    }

    /// Takes no more, makes durable what was taken, and gives the files free. Returns when that is done.
    pub async fn close(&self) {}
}

#[async_trait]
impl Publisher for Journal {
    async fn publish(&self, _message: Message, _deadline: Deadline) -> Result<Receipt, PublishError> {
        Err(PublishErrorKind::Unavailable.into())
    }
}

#[async_trait]
impl Bus for Journal {
    async fn subscribe(&self, _consumer: &ConsumerSpec) -> Result<Box<dyn Subscription>, SubscribeError> {
        Err(SubscribeErrorKind::Unavailable.into())
    }
}
