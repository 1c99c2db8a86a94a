//! What operators ask: whether the gateway lives, whether it is ready, what it counted, what it refused; and what they may
//! change while it runs.

pub(crate) mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use upcall_telemetry::metrics::CONTENT_TYPE as METRICS_TYPE;

use crate::answer;
use crate::callback::Shared;
use crate::error::{ErrorKind, RequestErrorKind};
use crate::options::{Health, ReadyCheck};

/// What the admin pages show.
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) checks: Vec<ReadyCheck>,
    pub(crate) accepting: Arc<AtomicBool>,
    pub(crate) log: Option<log::Log>,
    pub(crate) configuration: Option<Arc<dyn Fn() -> Value + Send + Sync>>,
}

/// The admin pages.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/rejections", get(rejections))
        .route("/config", get(configuration))
        .route("/log", get(log::show).put(log::set).delete(log::revert))
        .fallback(async || unknown("there are /live, /ready, /metrics, /rejections, /config and /log"))
        .with_state(admin)
}

/// The pages for a load balancer: whether it lives and is ready, and not why.
pub(crate) fn health(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready_or_not))
        .fallback(async || unknown("there are /live and /ready"))
        .with_state(admin)
}

fn unknown(message: &str) -> Response {
    let kind = ErrorKind::Request(RequestErrorKind::RouteUnknown);
    answer::error(kind, message, &answer::own_request_id()).map(Body::new)
}

/// Answers a request for an admin page.
pub(crate) async fn answer(router: Router, request: Request<Incoming>) -> Response {
    let service = TowerToHyperService::new(router);
    service.call(request.map(Body::new)).await.unwrap_or_else(|never| match never {})
}

impl Admin {
    /// How each component is, and whether it is ready as a whole.
    fn health(&self) -> (bool, Vec<(String, Health)>) {
        let accepting = match self.accepting.load(Ordering::Relaxed) {
            true => Health::Fine,
            false => Health::Unready("it is shutting down".to_owned()),
        };
        let checks = self.checks.iter().flat_map(|check| (check.check)());
        let components: Vec<_> = [("gateway".to_owned(), accepting)].into_iter().chain(checks).collect();
        (components.iter().all(|(_, health)| !matches!(health, Health::Unready(_))), components)
    }
}

async fn live() -> Response {
    page(StatusCode::OK, br#"{"live":true}"#.to_vec())
}

async fn ready_or_not(State(admin): State<Arc<Admin>>) -> Response {
    let (is_ready, _) = admin.health();
    page(status_of(is_ready), json!({ "ready": is_ready }).to_string().into_bytes())
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let (is_ready, components) = admin.health();
    let components: Vec<Value> = components
        .into_iter()
        .map(|(name, health)| match health {
            Health::Fine => json!({ "name": name, "ready": true, "reason": null }),
            Health::Remark(remark) => json!({ "name": name, "ready": true, "reason": remark }),
            Health::Unready(reason) => json!({ "name": name, "ready": false, "reason": reason }),
        })
        .collect();
    page(status_of(is_ready), json!({ "ready": is_ready, "components": components }).to_string().into_bytes())
}

fn status_of(is_ready: bool) -> StatusCode {
    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    // Values that are known elsewhere are brought up to date first, perhaps from files.
    match tokio::task::spawn_blocking(move || admin.shared.measures.metrics.encode()).await {
        Ok(text) => {
            let mut response = Response::new(text.into());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(METRICS_TYPE));
            response
        }
        Err(_panic) => {
            let kind = ErrorKind::Request(RequestErrorKind::Internal);
            answer::error(kind, kind.message(), &answer::own_request_id()).map(Body::new)
        }
    }
}

async fn rejections(State(admin): State<Arc<Admin>>) -> Response {
    page(StatusCode::OK, admin.shared.rejections.to_json().to_string().into_bytes())
}

/// Which configuration is in force.
async fn configuration(State(admin): State<Arc<Admin>>) -> Response {
    match &admin.configuration {
        Some(configuration) => page(StatusCode::OK, configuration().to_string().into_bytes()),
        None => refusal(StatusCode::NOT_FOUND, "config_unavailable", "this process was started without a file"),
    }
}

/// An answer in the form that every error has.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let error = json!({ "code": code, "message": message, "request_id": answer::own_request_id() });
    page(status, json!({ "error": error }).to_string().into_bytes())
}

fn page(status: StatusCode, json: Vec<u8>) -> Response {
    answer::json(status, json).map(Body::new)
}
