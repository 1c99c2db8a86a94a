//! Answers of the HTTP library itself, made JSON.
//!
//! To a request that is no HTTP the library answers without asking anybody, and without a body. An answer of ours
//! always has one. So what leaves with `content-length: 0` is the library's, and is replaced.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};

use crate::answer;
use crate::error::{ErrorKind, RequestErrorKind};

/// How a head ends whose answer has no body: the library writes these last.
const NO_BODY: &[u8] = b"content-length: 0\r\n";
/// `date: Thu, 01 Jan 1970 00:00:00 GMT`, and the empty line.
const DATE_BYTES: usize = 37 + 2;

/// A connection whose every answer is JSON.
pub(crate) struct AlwaysJson<IO> {
    inner: IO,
    replacing: Option<Replacement>,
    on_error: Arc<dyn Fn(RequestErrorKind) + Send + Sync>,
    /// Runs while the client takes nothing of what is written.
    stalled: Option<Pin<Box<Sleep>>>,
}

/// How long a client may take nothing of its answer. Without a bound, clients that never read would hold their
/// connections for ever; OSS reads at once.
const STALL_MAX: Duration = Duration::from_secs(5);

struct Replacement {
    bytes: Vec<u8>,
    written: usize,
    /// How many bytes of the library's it stands for.
    replaced: usize,
}

impl<IO> AlwaysJson<IO> {
    pub(crate) fn new(inner: IO, on_error: Arc<dyn Fn(RequestErrorKind) + Send + Sync>) -> Self {
        Self { inner, replacing: None, on_error, stalled: None }
    }

    /// Gives up on a client that takes nothing.
    fn bound<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stalled = None;
            return progress;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_MAX)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: Read + Unpin> Read for AlwaysJson<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<IO: Write + Unpin> AlwaysJson<IO> {
    fn poll_write_json(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.replacing.is_none() {
            let Some((kept, kind)) = bare_error(buf) else { return Pin::new(&mut self.inner).poll_write(cx, buf) };
            (self.on_error)(kind);
            let bytes = [&buf[..kept], &answer::error_bytes(ErrorKind::Request(kind))].concat();
            self.replacing = Some(Replacement { bytes, written: 0, replaced: buf.len() });
        }
        let Self { inner, replacing, .. } = self;
        let Some(replacement) = replacing else { return Poll::Ready(Ok(0)) };
        while replacement.written < replacement.bytes.len() {
            let written = ready!(Pin::new(&mut *inner).poll_write(cx, &replacement.bytes[replacement.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            replacement.written += written;
        }
        let replaced = replacement.replaced;
        self.replacing = None;
        Poll::Ready(Ok(replaced))
    }
}

impl<IO: Write + Unpin> Write for AlwaysJson<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll_write_json(cx, buf);
        self.bound(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match bufs {
            [] => Poll::Ready(Ok(0)),
            // An answer without a body is written last, and by itself or behind others in one piece.
            [only] => self.poll_write_json(cx, only),
            _ => Pin::new(&mut self.inner).poll_write_vectored(cx, bufs),
        };
        self.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.bound(cx, shut)
    }
}

/// Finds an answer of the library at the end of what is written: where it begins, and what it is about.
fn bare_error(bytes: &[u8]) -> Option<(usize, RequestErrorKind)> {
    let length_at = bytes.len().checked_sub(NO_BODY.len() + DATE_BYTES)?;
    if !bytes[length_at..].starts_with(NO_BODY) || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let begins_at = bytes.windows(7).rposition(|window| window == b"HTTP/1.")?;
    let kind = match bytes.get(begins_at + 9..begins_at + 12)? {
        b"431" | b"414" => RequestErrorKind::HeadTooLarge,
        _ => RequestErrorKind::RequestMalformed,
    };
    Some((begins_at, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    #[test]
    fn only_an_answer_without_a_body_is_the_librarys() {
        let bare = |status: &str| format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n{DATE}");
        let ours = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n{DATE}{{}}");
        assert_eq!(bare_error(bare("400 Bad Request").as_bytes()), Some((0, RequestErrorKind::RequestMalformed)));
        let (long, head_too_large) = (bare("431 Request Header Fields Too Large"), RequestErrorKind::HeadTooLarge);
        assert_eq!(bare_error(long.as_bytes()), Some((0, head_too_large)));
        assert_eq!(bare_error(format!("{ours}{long}").as_bytes()), Some((ours.len(), head_too_large)));
        assert_eq!(bare_error(ours.as_bytes()), None);
        assert_eq!(bare_error(b""), None);
    }
}
