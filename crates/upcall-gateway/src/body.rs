//! Reading a request's body, as it came, within bounds.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Body;
use tokio::time::timeout_at;
use upcall_bus::Deadline;

use crate::error::RequestErrorKind;

/// Reads the whole body. One that says that it is too long is not read at all.
pub(crate) async fn read(
    mut body: impl Body<Data = Bytes> + Unpin,
    bytes_max: usize,
    deadline: Deadline,
) -> Result<Bytes, RequestErrorKind> {
    let is_too_long = |length: usize| length > bytes_max;
    if usize::try_from(body.size_hint().lower()).map_or(true, is_too_long) {
        return Err(RequestErrorKind::BodyTooLarge);
    }
    let whole = async {
        // Nearly every body comes in one piece, which is used as it is.
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| RequestErrorKind::BodyBroken)?;
            let Ok(piece) = frame.into_data() else { continue };
            if is_too_long(first.len() + rest.len() + piece.len()) {
                return Err(RequestErrorKind::BodyTooLarge);
            }
            if first.is_empty() {
                first = piece;
            } else {
                rest.extend_from_slice(&piece);
            }
        }
        if rest.is_empty() {
            return Ok(first);
        }
        let mut joined = BytesMut::with_capacity(first.len() + rest.len());
        joined.extend_from_slice(&first);
        joined.extend_from_slice(&rest);
        Ok(joined.freeze())
    };
    match timeout_at(deadline.instant().into(), whole).await {
        Ok(result) => result,
        Err(_) => Err(RequestErrorKind::BodyTimeout),
    }
}

/// The bytes of an answer of ours, which is in memory.
pub(crate) async fn whole(body: Full<Bytes>) -> Bytes {
    body.collect().await.map(Collected::to_bytes).unwrap_or_else(|never| match never {})
}
