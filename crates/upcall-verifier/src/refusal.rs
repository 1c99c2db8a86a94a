//! Why a callback does not become an event.

use std::fmt;

use upcall_bus::{PublishError, PublishErrorKind};
use upcall_callback::{BodyError, KeyUrlError, RequestError, SignatureMismatch, TargetError};
use upcall_event::{Proof, SubjectTooLong};

use crate::keys::KeyUnavailable;

/// Why a callback does not become an event.
///
/// `Display` is for the log: it holds neither signatures nor values from the body. [`Refusal::message`] is for whoever
/// sent the callback.
#[derive(Debug)]
pub enum Refusal {
    /// The request target is none that OSS signs.
    Target(TargetError),
    /// There is no `authorization` header.
    SignatureMissing,
    /// The `authorization` header is not Base64 of a signature.
    SignatureEncoding,
    /// The `x-oss-pub-key-url` header is refused.
    KeyUrl(KeyUrlError),
    /// The key can't be had now, or never: there is none.
    KeyUnavailable(KeyUnavailable),
    /// The signature is not that of the key over the request.
    SignatureMismatch,
    /// The body is authentic, and has no one meaning.
    Body(BodyError),
    /// Two names in the body give one field two values, and the event can't do without the field.
    FieldConflict {
        /// The event's field.
        field: &'static str,
    },
    /// The body names no object.
    ObjectMissing,
    /// Nobody who may do so names the bucket.
    BucketMissing,
    /// The route does not take callbacks of this bucket.
    BucketNotAllowed {
        /// The bucket.
        bucket: String,
    },
    /// The route demands a proof that the callback does not give.
    ProofMissing(Proof),
    /// What the callback says makes a subject that no bus takes.
    SubjectTooLong(SubjectTooLong),
    /// The bus did not take the event.
    Bus(PublishError),
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal: $message:literal, cause $cause:literal, remedy $remedy:literal;)+) => {
        /// A kind of refusal, with what is documented of it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum RefusalKind { $($(#[doc = $doc])+ $variant),+ }

        impl RefusalKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable name, as answers, metrics and logs have it.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// What the sender is told.
            #[must_use]
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),+ }
            }

            /// Where it comes from, for the documentation.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$variant => $cause),+ }
            }

            /// What to do about it, for the documentation.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy),+ }
            }
        }
    };
}

kinds! {
    /// The target has another form.
    TargetForm = "target_form": "the request target is not a path with an optional query",
        cause "The request target is no path with an optional query, or holds `#`, white space or control characters.",
        remedy "Let OSS call the callback URL directly. A proxy in between must pass the path and query on as they came.";
    /// The target's path can be read as more than a path.
    TargetAmbiguous = "target_ambiguous": "the path holds an encoded `?` or line break",
        cause "The path decodes to `?`, CR or LF. One signature could then stand for several requests.",
        remedy "Choose a callback URL whose path has none of them.";
    /// The target's path is not UTF-8.
    TargetEncoding = "target_encoding": "the path does not decode to UTF-8",
        cause "The path, percent-decoded, is not UTF-8.",
        remedy "Choose a callback URL whose path is UTF-8.";
    /// No signature.
    SignatureMissing = "signature_missing": "the authorization header is missing",
        cause "The request has no `authorization` header. It is no callback of OSS, or something in between has removed the header.",
        remedy "Have proxies pass `authorization` on. On Function Compute, make the HTTP trigger anonymous.";
    /// No readable signature.
    SignatureEncoding = "signature_encoding": "the authorization header is not Base64 of a signature",
        cause "The `authorization` header is not Base64 of a signature.",
        remedy "See that no proxy puts its own `authorization` header in. OSS never sends such a header.";
    /// No readable key URL.
    KeyUrlEncoding = "key_url_encoding": "x-oss-pub-key-url is not Base64 of a URL",
        cause "The `x-oss-pub-key-url` header is not Base64 of a URL.",
        remedy "OSS never sends such a header: find out who called.";
    /// A key URL that is not allowed.
    KeyUrlForbidden = "key_url_forbidden": "the key's URL is not on OSS's host and not trusted here",
        cause "The key's URL is neither a plain one on `gosspublic.alicdn.com` nor trusted by the configuration.",
        remedy "If the callback comes from a simulator of your own, trust its key by configuration. Otherwise somebody tried to sign with a key of theirs.";
    /// A key that can't be had.
    KeyUnavailable = "key_unavailable": "the public key of the signature can't be had now",
        cause "The callback names a key that is not built in, and fetching it is switched off, failed, or took too long.",
        remedy "The log says which. Put the key into the configuration as a trusted key, or let the gateway reach `https://gosspublic.alicdn.com`.";
    /// A key that there is not.
    KeyUnknown = "key_unknown": "OSS has no such public key",
        cause "The callback names a key that is not built in, and OSS's host says that it has none of that name; or it is not a name that OSS gives its keys, and too many of such were asked for lately.",
        remedy "None is needed: OSS signs with keys that it has, so somebody else called. The log names the key. If it is a key of yours, put it into the configuration as a trusted key.";
    /// A wrong signature.
    SignatureMismatch = "signature_mismatch": "the signature does not match the request",
        cause "The signature was made with another key, or for another path, query or body.",
        remedy "Behind a proxy that rewrites paths, set the route's `public_path` or the header with the original target. See that nothing rewrites the body. Otherwise the callback is a forgery.";
    /// A body without one meaning.
    BodyUnreadable = "body_unreadable": "the body can't be read in one way only",
        cause "The body is authentic, and is neither a form nor JSON, nor something near them that has one meaning only.",
        remedy "Correct the `callbackBody`. The message says where it goes wrong.";
    /// One name, two values.
    BodyConflict = "body_conflict": "the body names a field twice, with different values",
        cause "The `callbackBody` has one name twice, with different values.",
        remedy "Give each value a name of its own in the `callbackBody`.";
    /// A template that OSS did not fill in.
    TemplateEncoded = "template_encoded": "OSS did not fill in a variable of the body",
        cause "The body holds a literal `${…}`: the uploader percent-encoded its template, so OSS did not find the variables.",
        remedy "Leave `$`, `{` and `}` of the `callbackBody` unencoded.";
    /// Too many fields.
    BodyTooManyFields = "body_too_many_fields": "the body has too many fields",
        cause "The body has more fields than any template of OSS has room for.",
        remedy "Shorten the `callbackBody`.";
    /// One field, two values.
    FieldConflict = "field_conflict": "two names in the body give bucket or object different values",
        cause "Two names in the body stand for the event's bucket or object, and their values differ.",
        remedy "Name the right one in the route's `fields`, which turns the default names for that field off.";
    /// No object.
    ObjectMissing = "object_missing": "the body names no object",
        cause "The body has no `object`. Without one there is no event.",
        remedy "Add `object=${object}` to the `callbackBody`. If it is there under another name, such as `filename=${object}`, say so in the route's `fields`: `object = \"filename\"`.";
    /// No bucket.
    BucketMissing = "bucket_missing": "nobody names the bucket",
        cause "The body has no `bucket`, and the route allows none or several, so that it can't tell either.",
        remedy "Add `bucket=${bucket}` to the `callbackBody`. Or give the route exactly one bucket. Or set `bucket_from_header`, whose value nobody signed.";
    /// A foreign bucket.
    BucketNotAllowed = "bucket_not_allowed": "this route does not take callbacks of that bucket",
        cause "The bucket is not among the route's `buckets`.",
        remedy "Add it to the route's `buckets`, if it is yours. Otherwise somebody sends you callbacks of their uploads.";
    /// A proof that is not there.
    ProofMissing = "proof_missing": "the callback lacks a proof that this route demands",
        cause "The route's `require` names a proof that the callback did not give.",
        remedy "Give the uploader what it needs for the proof, or demand less.";
    /// A long subject.
    SubjectTooLong = "subject_too_long": "the event's subject would be longer than a bus takes",
        cause "The values that the route's `subject` names are too long together, escaped.",
        remedy "If the upload is genuine, leave long values out of the route's `subject`. By default bucket and operation are in it, which are short.";
    /// A busy bus.
    BusBusy = "bus_busy": "more is being published than the bus takes",
        cause "More callbacks arrive than the bus takes on. The event was not stored.",
        remedy "Give the journal a faster disk, or spread the load. The object is stored all the same; the uploader may upload it again.";
    /// A slow bus.
    BusTimeout = "bus_timeout": "the event was not made durable in time",
        cause "The bus did not make the event durable before the deadline. It may be there all the same.",
        remedy "Look at the disk of the journal. Uploading again is harmless.";
    /// A full bus.
    BusFull = "bus_full": "the bus has no room left",
        cause "The disk is full, or the journal has reached its limit.",
        remedy "Make room. Until then every upload's callback fails.";
    /// A bus out of order.
    BusUnavailable = "bus_unavailable": "the bus is not available",
        cause "The bus is out of order, or shutting down.",
        remedy "The log and `/ready` say why.";
    /// A bus that refuses.
    BusRejected = "bus_rejected": "the bus refuses this event",
        cause "The bus refuses this event for good; it may be larger than the bus takes.",
        remedy "The log says why. Shorten the `callbackBody`.";
}

impl Refusal {
    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Target(TargetError::Form) => RefusalKind::TargetForm,
            Self::Target(TargetError::Ambiguous) => RefusalKind::TargetAmbiguous,
            Self::Target(TargetError::Encoding) => RefusalKind::TargetEncoding,
            Self::SignatureMissing => RefusalKind::SignatureMissing,
            Self::SignatureEncoding => RefusalKind::SignatureEncoding,
            Self::KeyUrl(KeyUrlError::Encoding) => RefusalKind::KeyUrlEncoding,
            Self::KeyUrl(KeyUrlError::Forbidden) => RefusalKind::KeyUrlForbidden,
            Self::KeyUnavailable(KeyUnavailable::Unknown { .. } | KeyUnavailable::TooManyFetches { .. }) => {
                RefusalKind::KeyUnknown
            }
            Self::KeyUnavailable(_) => RefusalKind::KeyUnavailable,
            Self::SignatureMismatch => RefusalKind::SignatureMismatch,
            Self::Body(BodyError::Unreadable { .. }) => RefusalKind::BodyUnreadable,
            Self::Body(BodyError::Conflict { .. }) => RefusalKind::BodyConflict,
            Self::Body(BodyError::NotFilledIn { .. }) => RefusalKind::TemplateEncoded,
            Self::Body(BodyError::TooManyFields) => RefusalKind::BodyTooManyFields,
            Self::FieldConflict { .. } => RefusalKind::FieldConflict,
            Self::ObjectMissing => RefusalKind::ObjectMissing,
            Self::BucketMissing => RefusalKind::BucketMissing,
            Self::BucketNotAllowed { .. } => RefusalKind::BucketNotAllowed,
            Self::ProofMissing(_) => RefusalKind::ProofMissing,
            Self::SubjectTooLong(_) => RefusalKind::SubjectTooLong,
            Self::Bus(error) => match error.kind {
                PublishErrorKind::Busy => RefusalKind::BusBusy,
                PublishErrorKind::Timeout => RefusalKind::BusTimeout,
                PublishErrorKind::Full => RefusalKind::BusFull,
                PublishErrorKind::Unavailable => RefusalKind::BusUnavailable,
                PublishErrorKind::Rejected => RefusalKind::BusRejected,
            },
        }
    }

    /// The stable name of its kind.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind().code()
    }

    /// What the sender is told. It may quote the sender's own body, and tells nothing about this side.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Body(error) => error.to_string(),
            Self::ObjectMissing => {
                "the body names no object: add `object=${object}` to the callbackBody, or name its field in the route's `fields`"
                    .to_owned()
            },
            Self::BucketMissing => "nobody names the bucket: add `bucket=${bucket}` to the callbackBody".to_owned(),
            Self::ProofMissing(proof) => format!("this route demands the proof {:?}", proof.as_str()),
            _ => self.kind().message().to_owned(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().message())?;
        match self {
            Self::Body(BodyError::Conflict { name } | BodyError::NotFilledIn { name, .. }) => write!(f, ": {name:?}"),
            Self::FieldConflict { field } => write!(f, ": {field}"),
            Self::BucketNotAllowed { bucket } => write!(f, ": {bucket:?}"),
            Self::ProofMissing(proof) => write!(f, ": {}", proof.as_str()),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::KeyUnavailable(cause) => Some(cause),
            Self::SubjectTooLong(cause) => Some(cause),
            Self::Bus(cause) => Some(cause),
            _ => None,
        }
    }
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::SignatureMissing => Self::SignatureMissing,
            RequestError::SignatureEncoding => Self::SignatureEncoding,
            RequestError::KeyUrl(error) => Self::KeyUrl(error),
        }
    }
}

impl From<SubjectTooLong> for Refusal {
    fn from(error: SubjectTooLong) -> Self {
        Self::SubjectTooLong(error)
    }
}

impl From<SignatureMismatch> for Refusal {
    fn from(_: SignatureMismatch) -> Self {
        Self::SignatureMismatch
    }
}
