//! One callback, without an upload: for trying out an application server.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt, Limited};
use upcall_callback::{
    ANSWER_BYTES_MAX, AnswerHead, BodyType, CallbackFailure, CallbackUrl, PrivateKey, Target, TargetError, check_answer,
};

use super::head::Head;
use super::send::{Answer, Call, Failed};
use super::tls::Tls;
use crate::options::{BindError, HttpsTrust};

/// A callback that no upload stands behind, signed as OSS signs.
#[derive(Debug, Clone)]
pub struct SingleCallback<'a> {
    /// Whom to call.
    pub url: &'a CallbackUrl,
    /// The key to sign with.
    pub key: &'a PrivateKey,
    /// The URL that the callback names its key by.
    pub key_url: &'a str,
    /// What the body is sent as.
    pub body_type: BodyType,
    /// The body, raw.
    pub body: &'a str,
    /// The `x-oss-bucket` header.
    pub bucket: &'a str,
    /// The `x-oss-request-id` header.
    pub request_id: &'a str,
}

/// What became of a callback.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// The answer's body, as far as it came.
    pub body: Bytes,
    /// What OSS would have made of it.
    pub verdict: Result<(), CallbackFailure>,
    /// What went wrong here, where OSS does not say it.
    pub cause: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// The account that such callbacks name.
const OWNER: &str = "1000000000000001";

impl SingleCallback<'_> {
    /// The request's headers, in the order in which they are sent.
    ///
    /// # Errors
    /// If the URL's path is none that can be signed.
    pub fn headers(&self) -> Result<Vec<(String, String)>, TargetError> {
        let head = self.head(&self.signature()?).headers(self.body.as_bytes());
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        Ok(head.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    /// Sends it, and waits for the answer so long.
    ///
    /// # Errors
    /// If the URL's path is none that can be signed, or the certificates to trust can't be read.
    pub async fn send(&self, trust: &HttpsTrust, limit: Duration) -> Result<Sent, SendError> {
        let signature = self.signature()?;
        let tls = Tls::new(trust)?;
        let body = Bytes::copy_from_slice(self.body.as_bytes());
        let headers = self.head(&signature).headers(&body);
        let call = Call { url: self.url, sni: true, headers, body, stall: Duration::ZERO };
        let begin = Instant::now();
        let answer = tokio::time::timeout(limit, Box::pin(receive(call, &tls))).await;
        let elapsed = begin.elapsed();
        let none = |failure, cause| Sent { status: None, body: Bytes::new(), verdict: Err(failure), cause, elapsed };
        Ok(match answer {
            Ok(Ok((status, body, verdict))) => Sent { status: Some(status), body, verdict, cause: None, elapsed },
            Ok(Err(Failed { failure, cause })) => none(failure, Some(cause)),
            Err(_) => none(CallbackFailure::Timeout { cost: elapsed, limit }, None),
        })
    }

    fn signature(&self) -> Result<String, TargetError> {
        Ok(self.key.sign(&Target::parse(self.url.target())?, self.body.as_bytes()))
    }

    fn head<'h>(&'h self, authorization: &'h str) -> Head<'h> {
        Head {
            host: self.url.authority(),
            authorization,
            body_type: self.body_type,
            bucket: self.bucket,
            request_id: self.request_id,
            owner: OWNER,
            key_url: self.key_url,
        }
    }
}

/// Why a callback can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL's path is none that can be signed.
    #[error("the callback's URL can't be called")]
    Target(#[from] TargetError),
    /// The certificates to trust can't be read.
    #[error(transparent)]
    Trust(#[from] BindError),
}

async fn receive(call: Call<'_>, tls: &Tls) -> Result<(u16, Bytes, Result<(), CallbackFailure>), Failed> {
    let Answer { response, _driver } = call.open(tls).await?;
    let (head, body) = response.into_parts();
    let content_length = head.headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().unwrap_or_default());
    // A body that is too long, or breaks off, is judged by its head or as no JSON.
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status = head.status.as_u16();
    let verdict = check_answer(AnswerHead { status, content_length }, &body);
    Ok((status, body, verdict))
}
