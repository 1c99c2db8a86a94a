//! The event that Upcall publishes: one upload to object storage, completed and authenticated.
//!
//! Everything here is pure: values in, values out. The wire format is CloudEvents 1.0; the JSON Schema
//! in `docs/reference/upload-completed.schema.json` is generated from these types.

mod cloudevents;
mod condition;
mod escape;
mod event;
mod field;
mod glob;
mod id;
mod schema;
mod subject;
mod template;
mod trace;

pub use cloudevents::{BinaryEvent, EVENT_TYPE, MalformedEvent, SPEC_VERSION};
pub use condition::{Condition, Impossible};
pub use event::{BucketSource, Event, Image, Origin, Proof, UploadCompleted};
pub use field::{Field, Known, UnknownField};
pub use glob::{Glob, InvalidGlob};
pub use id::{EventId, InvalidEventId};
pub use schema::json_schema;
pub use subject::{
    InvalidFilter, InvalidSubject, InvalidSubjectTemplate, SUBJECT_BYTES_MAX, Subject, SubjectFilter, SubjectTemplate,
    SubjectTooLong, escape_token, unescape_token,
};
pub use template::{InvalidTemplate, Part, Template};
pub use trace::{InvalidTrace, TraceContext, TraceParent, TraceState};
