//! Authenticates a callback, normalizes it to an event, and publishes it.
