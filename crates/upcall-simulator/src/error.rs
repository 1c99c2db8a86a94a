//! What OSS answers when it refuses a request.

use std::borrow::Cow;
use std::io;

use http::StatusCode;

/// A refusal, in OSS's words. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OssError {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// The code that SDKs branch on.
    pub(crate) code: &'static str,
    /// What people read.
    pub(crate) message: Cow<'static, str>,
    /// The finer code, as OSS's error centre lists it. Empty where it is not known for certain.
    pub(crate) ec: Cow<'static, str>,
}

impl OssError {
    fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        ec: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, message: message.into(), ec: ec.into() }
    }

    /// The callback is not one that OSS can send.
    pub(crate) fn invalid_callback(message: impl Into<Cow<'static, str>>, ec: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message, ec)
    }

    pub(crate) fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message, "")
    }

    pub(crate) fn invalid_bucket_name() -> Self {
        let message = "The specified bucket is not valid.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidBucketName", message, "")
    }

    pub(crate) fn invalid_object_name() -> Self {
        let message = "The specified object is not valid.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidObjectName", message, "")
    }

    pub(crate) fn no_such_bucket() -> Self {
        let message = "The specified bucket does not exist.";
        Self::new(StatusCode::NOT_FOUND, "NoSuchBucket", message, "0015-00000101")
    }

    pub(crate) fn bucket_not_empty() -> Self {
        let message = "The bucket you tried to delete is not empty.";
        Self::new(StatusCode::CONFLICT, "BucketNotEmpty", message, "")
    }

    pub(crate) fn no_such_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.", "0026-00000001")
    }

    pub(crate) fn no_such_upload() -> Self {
        let message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been \
                       aborted or completed.";
        Self::new(StatusCode::NOT_FOUND, "NoSuchUpload", message, "")
    }

    pub(crate) fn invalid_part() -> Self {
        let message = "One or more of the specified parts could not be found or the specified entity tag might not \
                       have matched the part's entity tag.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidPart", message, "")
    }

    pub(crate) fn invalid_part_order() -> Self {
        let message = "The list of parts was not in ascending order.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidPartOrder", message, "")
    }

    pub(crate) fn malformed_xml() -> Self {
        let message = "The XML you provided was not well-formed or did not validate against our published schema.";
        Self::new(StatusCode::BAD_REQUEST, "MalformedXML", message, "")
    }

    pub(crate) fn malformed_form(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MalformedPOSTRequest", message, "")
    }

    pub(crate) fn field_too_long() -> Self {
        let message = "Your POST request fields preceding the upload file are too large.";
        Self::new(StatusCode::BAD_REQUEST, "FieldItemTooLong", message, "")
    }

    pub(crate) fn entity_too_large() -> Self {
        let message = "Your proposed upload exceeds the maximum allowed size.";
        Self::new(StatusCode::BAD_REQUEST, "EntityTooLarge", message, "")
    }

    pub(crate) fn entity_too_small() -> Self {
        let message = "Your proposed upload is smaller than the minimum allowed size.";
        Self::new(StatusCode::BAD_REQUEST, "EntityTooSmall", message, "")
    }

    pub(crate) fn invalid_digest() -> Self {
        let message = "The Content-MD5 you specified did not match what we received.";
        Self::new(StatusCode::BAD_REQUEST, "InvalidDigest", message, "")
    }

    pub(crate) fn access_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message, "")
    }

    pub(crate) fn invalid_access_key() -> Self {
        let message = "The OSS Access Key Id you provided does not exist in our records.";
        Self::new(StatusCode::FORBIDDEN, "InvalidAccessKeyId", message, "")
    }

    pub(crate) fn signature_does_not_match() -> Self {
        let message = "The request signature we calculated does not match the signature you provided. Check your key \
                       and signing method.";
        Self::new(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message, "")
    }

    pub(crate) fn invalid_policy(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidPolicyDocument", message, "")
    }

    pub(crate) fn invalid_range() -> Self {
        let message = "The requested range cannot be satisfied.";
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message, "")
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "The specified method is not allowed against this resource.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, "")
    }

    pub(crate) fn not_implemented() -> Self {
        let message = "The simulator does not have this operation of OSS.";
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message, "")
    }

    pub(crate) fn request_timeout() -> Self {
        let message = "Your socket connection to the server was not read from or written to within the timeout period.";
        Self::new(StatusCode::BAD_REQUEST, "RequestTimeout", message, "")
    }

    pub(crate) fn broken_body() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "IncompleteBody", "The request body is not whole.", "")
    }

    /// The store failed; the cause goes to the log.
    pub(crate) fn internal(source: &io::Error) -> Self {
        tracing::error!(error = source as &dyn std::error::Error, "the simulator's store failed");
        let message = "We encountered an internal error. Please try again.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message, "")
    }
}

impl From<io::Error> for OssError {
    fn from(error: io::Error) -> Self {
        Self::internal(&error)
    }
}
