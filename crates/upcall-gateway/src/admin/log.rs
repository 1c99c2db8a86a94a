//! `/log` of the admin port: what is logged, changed while the process runs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use tokio::task::JoinHandle;
use upcall_bus::Deadline;
use upcall_telemetry::log::{Control, Shown};

use super::{Admin, page, refusal};
use crate::error::{ErrorKind, RequestErrorKind};
use crate::{answer, body};

/// The longest filter that is taken.
const FILTER_BYTES_MAX: usize = 4096;
/// How long it may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(3);
/// The longest that a filter may hold for a while: whoever wants it longer means the configuration.
const WHILE_MAX: Duration = Duration::from_hours(24 * 7);

/// The log's filter, and when it goes back.
pub(crate) struct Log {
    control: Control,
    /// Until when what was set by hand holds, and who ends it then.
    ending: Mutex<Option<(Timestamp, JoinHandle<()>)>>,
}

impl Log {
    pub(crate) fn new(control: Control) -> Self {
        Self { control, ending: Mutex::default() }
    }

    /// Has a change end after a while, or never; what was to end before it does not any more.
    fn end(&self, change: u64, after: Option<Duration>) {
        let control = self.control.clone();
        let ending = after.map(|after| {
            let until = Timestamp::now() + after;
            let timer = tokio::spawn(async move {
                tokio::time::sleep(after).await;
                control.revert(Some(change));
            });
            (until, timer)
        });
        let before = std::mem::replace(&mut *self.ending.lock().unwrap_or_else(PoisonError::into_inner), ending);
        if let Some((_, timer)) = before {
            timer.abort();
        }
    }

    fn show(&self) -> Response {
        let Shown { filter, configured, .. } = self.control.shown();
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        let until = ending.as_ref().filter(|(_, timer)| !timer.is_finished()).map(|(until, _)| until.to_string());
        page(
            StatusCode::OK,
            json!({ "filter": filter, "configured": configured, "until": until }).to_string().into_bytes(),
        )
    }
}

/// What is logged.
pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    admin.log.as_ref().map_or_else(unavailable, Log::show)
}

/// Logs by the filter that is the body, for as long as `for` says, or until the process ends.
pub(super) async fn set(State(admin): State<Arc<Admin>>, RawQuery(query): RawQuery, filter: Body) -> Response {
    let Some(log) = &admin.log else { return unavailable() };
    let filter = match body::read(filter, FILTER_BYTES_MAX, Deadline::after(BODY_TIME)).await {
        Ok(filter) => String::from_utf8(filter.into()).ok(),
        Err(RequestErrorKind::BodyTooLarge) => None,
        Err(kind) => {
            let kind = ErrorKind::Request(kind);
            return answer::error(kind, kind.message(), &answer::own_request_id()).map(Body::new);
        }
    };
    let Some(filter) = filter else {
        return invalid(&format!("the body is the filter, text of at most {FILTER_BYTES_MAX} bytes"));
    };
    let after = match query.as_deref().map(read_while).transpose() {
        Ok(after) => after,
        Err(problem) => return invalid(problem),
    };
    match log.control.set(filter.trim()) {
        Ok(Shown { change, .. }) => {
            log.end(change, after);
            log.show()
        }
        Err(error) => invalid(&format!("nothing was changed: {error}")),
    }
}

/// Goes back to what the configuration says.
pub(super) async fn revert(State(admin): State<Arc<Admin>>) -> Response {
    let Some(log) = &admin.log else { return unavailable() };
    let Shown { change, .. } = log.control.revert(None);
    log.end(change, None);
    log.show()
}

/// How long a filter is to hold, from a query such as `for=10m`.
fn read_while(query: &str) -> Result<Duration, &'static str> {
    let value = query.strip_prefix("for=").ok_or("the query is `for` alone, such as `/log?for=10m`")?;
    let time = humantime::parse_duration(value).ok().filter(|time| !time.is_zero() && *time <= WHILE_MAX);
    time.ok_or("`for` takes a duration with its unit, such as `10m`, and at most a week")
}

fn invalid(problem: &str) -> Response {
    refusal(StatusCode::BAD_REQUEST, "log_filter_invalid", problem)
}

fn unavailable() -> Response {
    refusal(StatusCode::NOT_FOUND, "log_unavailable", "what is logged can't be changed in this process")
}
