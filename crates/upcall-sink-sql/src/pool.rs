//! Pools of connections to servers.

use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database, Pool};

use crate::Options;

/// A connection that has been idle for so long is tried before it is used: something on the way may have dropped it.
const TRIED_AFTER: Duration = Duration::from_secs(10);
/// A connection that has been idle for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// A connection is not used for longer: what leads to the server may have changed, such as the primary's address.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Sets a pool's limits.
pub(crate) fn with_limits<D: Database>(pool: PoolOptions<D>, options: &Options) -> PoolOptions<D> {
    pool.max_connections(options.pool_max.get())
        .acquire_timeout(options.connect_timeout)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(LIFETIME_MAX)
        // What comes of it is said with the consumer's name.
        .acquire_slow_threshold(Duration::MAX)
        // That would be a round trip for each batch.
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if about.idle_for > TRIED_AFTER {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

/// Closes a pool whose connections may not answer, without waiting for it.
pub(crate) fn abandon<D: Database>(pool: Option<Pool<D>>) {
    if let Some(pool) = pool {
        tokio::spawn(async move { pool.close().await });
    }
}
