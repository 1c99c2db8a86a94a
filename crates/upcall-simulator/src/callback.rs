//! The callback of an upload: asked for, sent, reported.

mod head;
mod send;
mod single;
mod tls;

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use upcall_callback::{
    CallbackFailure, CallbackParameter, CallbackUrl, CallbackVars, ParameterError, Target, UploadFacts, render_body,
};

pub use single::{SendError, Sent, SingleCallback};
pub(crate) use tls::Tls;

use crate::error::OssError;
use crate::exchange::Exchange;
use crate::faults::{Corruption, Faults};
use crate::report::{CallbackOutcome, CallbackReport};
use crate::simulator::Shared;
use head::Head;
use send::Call;

/// A callback that an uploader asked for, in a form that can be sent.
#[derive(Debug, Clone)]
pub(crate) struct Requested {
    parameter: CallbackParameter,
    vars: CallbackVars,
}

impl Requested {
    /// Whether the body is to say something about an image.
    pub(crate) fn names_image(&self) -> bool {
        self.parameter.body.contains("${imageInfo.")
    }

    fn new(callback: &str, vars: CallbackVars) -> Result<Self, OssError> {
        let parameter = CallbackParameter::from_base64(callback).map_err(refused)?;
        // What cannot go onto the wire as it is written is not sent in another spelling.
        let sendable = |url: &CallbackUrl| {
            Target::parse(url.target()).is_ok() && url.target().parse::<http::uri::PathAndQuery>().is_ok()
        };
        if !parameter.urls.iter().all(sendable) {
            return Err(refused(ParameterError::Url));
        }
        Ok(Self { parameter, vars })
    }
}

/// Everything that a callback is made of.
pub(crate) struct Job {
    /// What the uploader asked for.
    pub(crate) requested: Requested,
    /// What is known about the upload.
    pub(crate) facts: UploadFacts,
    /// Whether the body names an image's values and the object is an image that cannot be read.
    pub(crate) unreadable_image: bool,
}

/// What the uploader gets in place of the plain answer.
pub(crate) enum Relayed {
    /// The application server's answer.
    Answer(Bytes),
    /// Why there is none.
    Failure(CallbackFailure),
}

/// Reads which callback a request's headers or query ask for.
pub(crate) fn of_request(exchange: &Exchange) -> Result<Option<Requested>, OssError> {
    let headers = &exchange.head.headers;
    // What is not even text is refused like other text that is not Base64.
    let by_name = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let by_header = (by_name("x-oss-callback"), by_name("x-oss-callback-var"));
    let by_query = (exchange.query("callback"), exchange.query("callback-var"));
    if by_header != (None, None) && by_query != (None, None) {
        return Err(refused(ParameterError::Twice));
    }
    let (callback, vars) = if by_query == (None, None) { by_header } else { by_query };
    let vars = vars.map_or(Ok(CallbackVars::default()), CallbackVars::from_base64).map_err(refused)?;
    callback.map(|callback| Requested::new(callback, vars)).transpose()
}

/// Reads which callback a form asks for.
pub(crate) fn of_form<'f>(
    callback: Option<&str>,
    fields: impl IntoIterator<Item = (&'f str, &'f str)>,
) -> Result<Option<Requested>, OssError> {
    callback.map(|callback| Requested::new(callback, CallbackVars::from_form(fields))).transpose()
}

/// Sends a callback, with the faults in force, and tells what the uploader gets.
///
/// # Cancel safety
/// A callback goes on when the future is dropped: an uploader that went away does not take it along.
pub(crate) async fn perform(shared: &Arc<Shared>, job: Job) -> Relayed {
    let shared = Arc::clone(shared);
    let task = tokio::spawn(async move {
        let faults = shared.faults.meet();
        let relayed = Box::pin(perform_with(&shared, &job, &faults)).await;
        tokio::time::sleep(faults.late()).await;
        relayed
    });
    task.await.unwrap_or(Relayed::Failure(CallbackFailure::Status(500)))
}

async fn perform_with(shared: &Arc<Shared>, job: &Job, faults: &Faults) -> Relayed {
    let parameter = &job.requested.parameter;
    let url = parameter.urls.first().map(CallbackUrl::as_str).unwrap_or_default();
    if job.unreadable_image {
        report(shared, job, url, CallbackOutcome::Failed(CallbackFailure::ImageInfo), Instant::now());
        return Relayed::Failure(CallbackFailure::ImageInfo);
    }
    if let Some(answer) = &faults.lose {
        report(shared, job, url, CallbackOutcome::Lost, Instant::now());
        return Relayed::Answer(answer.to_string().into());
    }
    tokio::time::sleep(faults.delay()).await;

    let mut failure = CallbackFailure::NoConnection;
    let start = Instant::now();
    for url in &parameter.urls {
        let answer = if faults.duplicate {
            tokio::join!(attempt(shared, job, url, faults, start), attempt(shared, job, url, faults, start)).0
        } else {
            attempt(shared, job, url, faults, start).await
        };
        match answer {
            Ok(answer) => return Relayed::Answer(answer),
            Err(error) => failure = error,
        }
    }
    Relayed::Failure(failure)
}

/// Calls one URL, with what is left of the time since `start`.
async fn attempt(
    shared: &Arc<Shared>,
    job: &Job,
    url: &CallbackUrl,
    faults: &Faults,
    start: Instant,
) -> Result<Bytes, CallbackFailure> {
    let began = Instant::now();
    let (headers, body) = compose(shared, job, url, faults.corrupt);
    let call = Call { url, sni: job.requested.parameter.sni, headers, body, stall: faults.stall() };
    let limit = shared.options.callback_timeout;
    let left = limit.saturating_sub(start.elapsed());
    let answer = match tokio::time::timeout(left, Box::pin(call.send(&shared.tls))).await {
        Ok(answer) => answer,
        Err(_) => Err(CallbackFailure::Timeout { cost: start.elapsed(), limit }),
    };
    let outcome = match &answer {
        Ok(answer) => CallbackOutcome::Answered { bytes: answer.len() },
        Err(failure) => CallbackOutcome::Failed(failure.clone()),
    };
    report(shared, job, url.as_str(), outcome, began);
    answer
}

/// Makes the request that OSS would send to a URL, and spoils it if it is to be spoilt.
fn compose(shared: &Shared, job: &Job, url: &CallbackUrl, corrupt: Option<Corruption>) -> (HeaderMap, Bytes) {
    let parameter = &job.requested.parameter;
    let mut body = render_body(parameter, &job.facts, &job.requested.vars);
    // A target that is none was refused with the upload.
    let mut signature = Target::parse(url.target()).map(|target| shared.key.sign(&target, &body)).unwrap_or_default();
    match corrupt {
        None => {}
        Some(Corruption::Body) => spoil(&mut body),
        Some(Corruption::Signature) => {
            let mut bytes = STANDARD.decode(&signature).unwrap_or_default();
            spoil(&mut bytes);
            signature = STANDARD.encode(bytes);
        }
    }
    let head = Head {
        host: parameter.host.as_deref().unwrap_or_else(|| url.authority()),
        authorization: &signature,
        body_type: parameter.body_type,
        bucket: &job.facts.bucket,
        request_id: &job.facts.request_id,
        owner: &shared.options.owner,
        key_url: &shared.key_url,
    };
    (head.headers(&body), body.into())
}

/// Changes one bit in the middle: what was a letter stays one, mostly.
fn spoil(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
}

fn report(shared: &Shared, job: &Job, url: &str, outcome: CallbackOutcome, began: Instant) {
    // Nobody needs to listen.
    let _ = shared.reports.send(CallbackReport {
        bucket: job.facts.bucket.clone(),
        object: job.facts.object.clone(),
        request_id: job.facts.request_id.clone(),
        url: url.to_owned(),
        outcome,
        elapsed: began.elapsed(),
    });
}

fn refused(error: ParameterError) -> OssError {
    OssError::invalid_callback(error.message(), error.ec())
}
