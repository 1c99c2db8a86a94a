//! Recording applied events. A database says how many it took, and is asked which only where some were there.

use crate::applied::{Fresh, Key};
use crate::database::Session;

/// How often the events of a batch may have been recorded by others between looking and recording.
const RACES_MAX: u32 = 10;

/// Records keys, which are sorted and distinct, as applied, and tells which were not. That they are all new is the rule,
/// and takes one statement. Comes first in a transaction: it may begin it anew. Waits for others that record the same keys.
pub(crate) async fn record(session: &mut dyn Session, keys: &[Key], now: i64) -> Result<Fresh, sqlx::Error> {
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
