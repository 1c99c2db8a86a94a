//! One HTTP request to one callback URL, exactly as it is written.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use upcall_callback::{AnswerHead, CallbackFailure, CallbackUrl, check_answer, check_answer_head};

use super::Tls;

/// The status that OSS reports for a server that takes connections and does not speak HTTP, or not this TLS.
const BAD_GATEWAY: u16 = 502;

/// One callback to one URL.
pub(super) struct Call<'a> {
    /// Where to.
    pub(super) url: &'a CallbackUrl,
    /// Whether TLS names the host.
    pub(super) sni: bool,
    /// All headers.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Bytes,
    /// How long to wait between head and body.
    pub(super) stall: Duration,
}

/// Why there is no answer.
pub(super) struct Failed {
    /// As OSS tells it.
    pub(super) failure: CallbackFailure,
    /// What happened.
    pub(super) cause: String,
}

impl Failed {
    fn new(failure: CallbackFailure, cause: String) -> Self {
        Self { failure, cause }
    }
}

/// An answer whose body is still to be read.
pub(super) struct Answer {
    pub(super) response: http::Response<Incoming>,
    /// Reads the connection; ends with the answer, whichever way that goes.
    pub(super) _driver: JoinSet<hyper::Result<()>>,
}

impl Call<'_> {
    /// Sends the callback and judges the answer as OSS does. It has no time limit of its own.
    pub(super) async fn send(self, tls: &Tls) -> Result<Bytes, CallbackFailure> {
        judge(self.open(tls).await.map_err(|failed| failed.failure)?).await
    }

    /// Sends the callback and waits for the answer's head. It has no time limit of its own.
    pub(super) async fn open(self, tls: &Tls) -> Result<Answer, Failed> {
        let stream = connect(self.url.host(), self.url.port()).await?;
        if self.url.is_https() {
            let stream = tls.connect(self.url.host(), self.sni, stream).await;
            let failed = |error| Failed::new(CallbackFailure::Status(BAD_GATEWAY), format!("TLS: {error}"));
            self.exchange(stream.map_err(failed)?).await
        } else {
            self.exchange(stream).await
        }
    }

    async fn exchange(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Answer, Failed> {
        let Self { url, headers, body, stall, .. } = self;
        let frames = stream::once(async move {
            tokio::time::sleep(stall).await;
            Ok::<_, Infallible>(Frame::data(body))
        });
        let mut request = Request::post(url.target())
            .body(StreamBody::new(Box::pin(frames)))
            .map_err(|error| Failed::new(CallbackFailure::NoConnection, error.to_string()))?;
        *request.headers_mut() = headers;

        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        Ok(Answer { response, _driver: driver })
    }
}

async fn judge(answer: Answer) -> Result<Bytes, CallbackFailure> {
    let Answer { response, _driver } = answer;
    let (head, mut body) = response.into_parts();
    let content_length = head.headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().unwrap_or_default());
    let head = AnswerHead { status: head.status.as_u16(), content_length };
    let length = check_answer_head(head)?;
    let mut received = BytesMut::with_capacity(length);
    while let Some(frame) = body.frame().await {
        // An answer that breaks off is not JSON, or not all of it.
        let Ok(frame) = frame else { break };
        if let Some(bytes) = frame.data_ref() {
            received.extend_from_slice(bytes);
        }
    }
    check_answer(head, &received)?;
    Ok(received.freeze())
}

/// Connects to the first of a host's addresses that answers, IPv4 first: OSS calls no others.
async fn connect(host: &str, port: u16) -> Result<TcpStream, Failed> {
    let failed = |cause| Failed::new(CallbackFailure::NoConnection, cause);
    let addresses = lookup_host((host, port)).await.map_err(|error| failed(format!("{host}: {error}")))?;
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_by_key(std::net::SocketAddr::is_ipv6);
    let mut causes = Vec::new();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Head and body are written apart; without this the body waits for the head's acknowledgement.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => causes.push(format!("{address}: {error}")),
        }
    }
    Err(failed(causes.join("; ")))
}

fn broken(error: &hyper::Error) -> Failed {
    // hyper refuses such a length itself and tells it apart in its text only.
    let failure = if error.is_parse() && error.to_string().contains("content-length") {
        CallbackFailure::LengthInvalid
    } else {
        CallbackFailure::Status(BAD_GATEWAY)
    };
    Failed::new(failure, error.to_string())
}
