//! The runtime of consumers: sinks, batches, retries, dead letters.
