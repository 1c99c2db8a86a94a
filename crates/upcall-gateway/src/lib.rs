//! The HTTP face of Upcall: takes callbacks, answers with JSON, and serves the admin endpoints.
//!
//! [`Options`] → [`Gateway::bind`] → [`Gateway::run`]. Raw target and raw body reach the verifier as they came; every
//! answer is JSON and has its length; everything has a limit.

mod admin;
mod answer;
mod asking;
mod body;
mod callback;
mod clock;
mod error;
mod function;
mod gateway;
mod listener;
mod measure;
mod network;
mod notification;
mod options;
mod places;
mod quarantine;
mod raw;
mod rejections;
mod routes;
mod site;

pub use error::{ErrorKind, RequestErrorKind};
pub use gateway::{BindError, Gateway, Unfinished};
pub use network::{InvalidNetwork, Network};
pub use options::{
    Before, FunctionOptions, Health, InvokedBy, Limits, Observed, Observer, Options, OriginalTarget, ReadyCheck,
    RouteOptions, ShutdownOptions,
};
pub use routes::{InvalidRoutes, check_routes};
pub use site::{CheckedSite, SiteHandle, SiteOptions};
