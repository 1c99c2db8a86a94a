//! Logs and metrics, and every name that operators see, in one place.
