//! People are told: by the built executable, through servers that check what they get as the services do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat;
mod mail;
mod world;
