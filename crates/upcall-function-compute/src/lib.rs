//! Alibaba Cloud Function Compute 3.0, as a custom runtime meets it. Pure: bytes in, values out.
//!
//! A custom runtime is an HTTP server. [`Control`] is what a request to it means, [`HttpEvent`] is a request of the HTTP
//! trigger in the form of an event, and [`http_answer`] is the answer to one in its form.
//!
//! The facts are Alibaba Cloud's documentation (Function Compute, "Custom runtimes" and "HTTP triggers").

mod answer;
mod control;
mod event;
mod http_event;

pub use answer::http_answer;
pub use control::{AmbiguousControl, CONTROL_PATH, Control, DEFAULT_PORT, FAILED, PORT_VARIABLE, REQUEST_ID, STATUS};
pub use event::{Event, UnknownEvent};
pub use http_event::{HttpEvent, Unverifiable};
