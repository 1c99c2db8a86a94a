//! OSS on your own machine: real uploads in, genuinely signed callbacks out.
//!
//! [`Options`] → [`Simulator::bind`] → [`Simulator::run`]; a [`Handle`] changes its [`Faults`] and follows its
//! callbacks meanwhile. What it does and what it does not is in `docs/simulator.md`.

mod address;
mod admin;
mod bucket;
mod callback;
mod described;
mod error;
mod exchange;
mod faults;
mod form;
mod image;
mod listing;
mod multipart;
mod name;
mod object;
mod options;
mod policy;
mod post;
mod put;
mod range;
mod receive;
mod report;
mod request_id;
mod service;
mod simulator;
mod store;
mod upload;
mod xml;

pub use callback::{SendError, Sent, SingleCallback};
pub use faults::{Corruption, Faults};
pub use options::{BindError, Credentials, HttpsTrust, Options};
pub use report::{CallbackOutcome, CallbackReport};
pub use simulator::{Handle, Simulator};
