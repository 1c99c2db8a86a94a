//! Answers: JSON, with their length, whatever happened.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use upcall_responder::Veto;

use crate::error::{ErrorKind, RequestErrorKind};

/// An answer with a JSON body.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let body = body.into();
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    response.map(|()| Full::new(body))
}

/// An answer that says what went wrong.
pub(crate) fn error(kind: ErrorKind, message: &str, request_id: &str) -> Response<Full<Bytes>> {
    let mut response = json(kind.status(), error_json(kind, message, request_id));
    if kind == ErrorKind::Request(RequestErrorKind::MethodNotAllowed) {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// An answer that shows the uploader a veto. Only with 200 does OSS relay it.
pub(crate) fn veto(veto: &Veto, request_id: &str) -> Response<Full<Bytes>> {
    let kind = ErrorKind::Request(RequestErrorKind::Vetoed);
    let own = || error_json(kind, veto.reason(), request_id).into();
    json(StatusCode::OK, veto.body().cloned().unwrap_or_else(own))
}

/// The JSON that says what went wrong.
pub(crate) fn error_json(kind: ErrorKind, message: &str, request_id: &str) -> Vec<u8> {
    json!({ "error": error_value(kind, message, request_id) }).to_string().into_bytes()
}

/// What went wrong, to be a part of an answer.
pub(crate) fn error_value(kind: ErrorKind, message: &str, request_id: &str) -> Value {
    json!({ "code": kind.code(), "message": message, "request_id": request_id })
}

/// A whole error answer as bytes, for where there is no server to write it. The connection closes behind it.
pub(crate) fn error_bytes(kind: ErrorKind) -> Vec<u8> {
    let (status, body) = (kind.status(), error_json(kind, kind.message(), &own_request_id()));
    let reason = status.canonical_reason().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {reason}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        status.as_u16(),
        body.len(),
    );
    [head.into_bytes(), body].concat()
}

/// An id for a request that came without one of OSS, so that its answer can be found in the log.
pub(crate) fn own_request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let millisecond = jiff::Timestamp::now().as_millisecond();
    format!("upcall-{millisecond:x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
