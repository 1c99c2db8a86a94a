//! Authenticates a callback, normalizes it to an event, and publishes it.
//!
//! Each step takes what only the step before it makes: a request becomes `Verified` by its signature, [`Admitted`] by
//! its route's policy, a message, and [`Accepted`] once the bus has made it durable. [`Verifier::accept`] takes them all.

mod field_map;
mod keys;
mod normalize;
mod refusal;
mod route;
mod verifier;

pub use field_map::{FieldMap, InvalidField};
pub use keys::{
    FetchFailure, HttpsFetcher, HttpsFetcherError, InvalidTrustedKey, KeyFetcher, KeyUnavailable, Keys, TrustedKey,
};
pub use refusal::{Refusal, RefusalKind};
pub use route::{Admitted, InvalidRoute, Route, RouteOptions};
pub use verifier::{Accepted, Verifier};
