//! Recording applied events where the database says how many it took, but not which.

use std::collections::HashSet;

use async_trait::async_trait;

use crate::applied::{Fresh, Key};

/// How often the events of a batch may have been recorded by others between looking and recording.
const RACES_MAX: u32 = 10;

/// A transaction in such a database.
#[async_trait]
pub(crate) trait Counting: Send {
    /// Inserts keys, and returns how many were not there.
    async fn insert_applied(&mut self, keys: &[Key], now: i64) -> Result<u64, sqlx::Error>;

    /// Which of these are there.
    async fn known(&mut self, keys: &[Key]) -> Result<HashSet<Key>, sqlx::Error>;

    /// Undoes everything, and begins anew.
    async fn begin_anew(&mut self) -> Result<(), sqlx::Error>;
}

/// Records keys, and tells which were not there. That they are all new is the rule, and takes one statement.
pub(crate) async fn record(session: &mut impl Counting, keys: &[Key], now: i64) -> Result<Fresh, sqlx::Error> {
    if session.insert_applied(keys, now).await? == keys.len() as u64 {
        return Ok(Fresh::All);
    }
    for _ in 0..RACES_MAX {
        session.begin_anew().await?;
        let known = session.known(keys).await?;
        let fresh: Vec<Key> = keys.iter().filter(|key| !known.contains(key)).copied().collect();
        if session.insert_applied(&fresh, now).await? == fresh.len() as u64 {
            return Ok(Fresh::Only(fresh.into_iter().collect()));
        }
    }
    Err(sqlx::Error::PoolTimedOut)
}
