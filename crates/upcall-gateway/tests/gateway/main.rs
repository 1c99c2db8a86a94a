//! The gateway over real sockets, with real signatures.

mod admin;
mod answers;
mod http;
mod limits;
mod proxies;
mod support;
