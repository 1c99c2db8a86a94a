//! The OSS upload callback protocol, both sides. Pure: bytes in, values out.
//!
//! On the side of the application server, types carry what was checked: a [`CallbackRequest`] is what came off the
//! wire, an [`Unverified`] has readable headers and an allowed key URL, and only a [`Verified`] gives access to the
//! body's fields.
//!
//! On the side of OSS, a [`CallbackParameter`] is what the uploader sends, [`render_body`] fills its template in,
//! [`PrivateKey::sign`] signs, and [`check_answer`] judges the application server's answer.
//!
//! [`Notifications`] are what OSS tells of uploads afterwards, unsigned.
//!
//! The facts are Alibaba Cloud's documentation (OSS API reference, "Callback"), recorded callbacks, and computation.

mod answer;
mod body;
mod candidate;
mod key;
mod key_url;
mod notification;
mod parameter;
mod request;
mod substitute;
mod target;

pub use answer::{ANSWER_BYTES_MAX, AnswerHead, CallbackFailure, check_answer, check_answer_head, error_xml};
pub use body::{Body, BodyError, Repair};
pub use candidate::Candidate;
pub use key::{KeyError, PrivateKey, PublicKey, V1_PEM};
pub use key_url::{KeyUrl, KeyUrlError};
pub use notification::{Notification, NotificationError, Notifications};
pub use parameter::{
    BodyType, CallbackParameter, CallbackUrl, CallbackVars, PARAMETER_BYTES_MAX, ParameterError, is_private_address,
};
pub use request::{CallbackRequest, RequestError, SignatureMismatch, Unverified, Verified};
pub use substitute::{UploadFacts, render_body};
pub use target::{Target, TargetError};
