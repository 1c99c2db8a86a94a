//! The sink that posts events to webhooks.
