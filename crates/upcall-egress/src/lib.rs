//! What outgoing HTTP has in common: which addresses may be called, limits, pace, and when to leave a target alone.
//!
//! A [`Client`] posts to an [`Endpoint`] whose address its [`Guard`] admits, whatever the endpoint's name resolves to at
//! that moment. A [`Pace`] keeps to a rate by waiting, and a [`Breaker`] tells when a target is better left alone. It
//! knows neither events nor buses.

mod address;
mod breaker;
mod client;
mod endpoint;
mod error;
mod excerpt;
mod guard;
mod header;
mod network;
mod pace;
mod rate;
mod resolver;
mod retry_after;
mod rounded;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;

pub use address::Kind;
pub use breaker::{Admission, Breaker, BreakerOptions, Resting};
pub use client::{BuildError, Client, ClientOptions, InvalidAuthority, Response, authorities};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use error::{Error, ErrorKind, Source, tls_remedy};
pub use excerpt::excerpt;
pub use guard::{Guard, Refused};
pub use header::{InvalidHeader, header};
pub use network::{InvalidNetwork, Network};
pub use pace::{Pace, TooLong};
pub use rate::{InvalidRate, Rate};
pub use resolver::{Lookup, SystemLookup};
pub use retry_after::retry_after;
pub use rounded::rounded;
pub use rustls::pki_types::CertificateDer;
pub use tls::{client_tls, machine_roots};
