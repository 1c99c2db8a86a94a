//! What the sink needs of a database.

use async_trait::async_trait;

use crate::StoreError;
use crate::row::Row;

/// A database that keeps the sink's tables. One implementation per database.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Connects, creates the tables that are missing, and checks those that are there.
    async fn prepare(&self) -> Result<(), StoreError>;

    /// Applies rows in one transaction, all or nothing: those whose event was applied before are left out, and of
    /// several for one object the latest stays. Returns once they are durable.
    async fn apply(&self, rows: &[Row]) -> Result<(), StoreError>;

    /// Forgets some ids of events applied before this moment (Unix seconds). Tells whether there may be more.
    async fn forget(&self, before: i64) -> Result<bool, StoreError>;

    /// Closes the connections.
    async fn close(&self);
}
