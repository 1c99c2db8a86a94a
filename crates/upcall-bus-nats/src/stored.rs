//! Single messages that a stream holds, as its leader knows them: another replica may not have heard of the last ones yet.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind, Stream};

/// Which message of a stream.
pub(crate) enum Which<'s> {
    /// The one of this sequence.
    At(u64),
    /// The first at or after this sequence.
    From(u64),
    /// The first at or after this sequence that this filter selects.
    Selected(u64, &'s str),
    /// The last that this filter selects.
    Last(&'s str),
}

/// Reads a message; `None` if there is no such one.
pub(crate) async fn stored(stream: &Stream<()>, which: Which<'_>) -> Result<Option<StreamMessage>, RawMessageError> {
    let builder = stream.raw_message_builder();
    let request = match which {
        Which::At(sequence) => builder.sequence(sequence),
        Which::From(sequence) => builder.sequence(sequence).next_by_subject(">"),
        Which::Selected(sequence, filter) => builder.sequence(sequence).next_by_subject(filter),
        Which::Last(filter) => builder.last_by_subject(filter),
    };
    match request.send().await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same, where there may be no such stream any more.
pub(crate) async fn stored_if_there(
    stream: &Stream<()>,
    which: Which<'_>,
) -> Result<Option<StreamMessage>, RawMessageError> {
    match stored(stream, which).await {
        Err(error) if is_missing(&error) => Ok(None),
        read => read,
    }
}

/// Whether there is no such stream.
pub(crate) fn is_missing(error: &RawMessageError) -> bool {
    matches!(error.kind(), RawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
