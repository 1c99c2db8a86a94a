//! What can be exchanged while callbacks are taken: routes, keys, and who is believed about targets.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use upcall_callback::TargetError;
use upcall_telemetry::metrics::Metrics;
use upcall_verifier::{Refusal, Verifier};

use crate::callback::{PUB_KEY_URL, Shared};
use crate::error::{Error, RequestErrorKind};
use crate::measure::Outcomes;
use crate::options::{OriginalTarget, RouteOptions};
use crate::routes::{Found, InvalidRoutes, RouteTable};

/// What a callback is judged by. It keeps the one that it began with.
pub(crate) struct Site {
    pub(crate) routes: RouteTable,
    /// In the order of the routes.
    pub(crate) outcomes: Vec<Outcomes>,
    pub(crate) original_target: Option<OriginalTarget>,
    pub(crate) verifier: Verifier,
}

/// What can be exchanged while a gateway runs.
pub struct SiteOptions {
    /// The callback paths.
    pub routes: Vec<RouteOptions>,
    /// Which proxies may say what the original request target was.
    pub original_target: Option<OriginalTarget>,
    /// Authenticates callbacks and publishes what they report.
    pub verifier: Verifier,
}

/// Exchanges what a running gateway judges callbacks by; cheap to clone.
#[derive(Clone)]
pub struct SiteHandle(pub(crate) Arc<Shared>);

/// A site that was checked, ready to be used.
pub struct CheckedSite(Site);

impl SiteHandle {
    /// Checks what is to be exchanged. Nothing changes yet.
    ///
    /// # Errors
    /// With every mistake in the routes.
    pub fn check(&self, options: SiteOptions) -> Result<CheckedSite, Vec<InvalidRoutes>> {
        let SiteOptions { routes, original_target, verifier } = options;
        let takes_callbacks = !self.0.site.load().routes.is_empty();
        let routes = if takes_callbacks { RouteTable::new(routes)? } else { RouteTable::default() };
        Ok(CheckedSite(Site::new(routes, original_target, verifier, &self.0.measures.metrics)))
    }

    /// Uses a site from now on. Callbacks under way are finished with the one that they began with.
    pub fn exchange(&self, site: CheckedSite) {
        self.0.site.store(Arc::new(site.0));
    }
}

impl Site {
    pub(crate) fn new(
        routes: RouteTable,
        original_target: Option<OriginalTarget>,
        verifier: Verifier,
        metrics: &Metrics,
    ) -> Self {
        let outcomes =
            routes.answers().map(|(route, responder)| Outcomes::new(metrics, route, Some(responder))).collect();
        Self { routes, outcomes, original_target, verifier }
    }

    /// The request's route and the target that OSS signed.
    pub(crate) fn find<'a>(&'a self, parts: &'a Parts, peer: SocketAddr) -> Result<Found<'a>, Error> {
        let found = match self.told_by_proxy(&parts.headers, peer)? {
            Some(original) => self.routes.find_signed(original),
            None => match (parts.uri.scheme(), parts.uri.path_and_query()) {
                (None, Some(target)) => self.routes.find_arriving(target.as_str()),
                // The form that is meant for proxies, or for another method.
                _ => Err(TargetError::Form),
            },
        };
        found.map_err(Refusal::Target)?.ok_or_else(|| unrouted(&parts.headers).into())
    }

    /// The original target, if a trusted proxy tells it.
    fn told_by_proxy<'a>(&self, headers: &'a HeaderMap, peer: SocketAddr) -> Result<Option<&'a str>, RequestErrorKind> {
        let Some(OriginalTarget { header, proxies }) = &self.original_target else { return Ok(None) };
        if !proxies.iter().any(|network| network.contains(peer.ip())) {
            return Ok(None);
        }
        let mut values = headers.get_all(header).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                str::from_utf8(value.as_bytes()).map(Some).map_err(|_| RequestErrorKind::OriginalTargetUnusable)
            }
            (Some(_), Some(_)) => Err(RequestErrorKind::OriginalTargetUnusable),
        }
    }
}

/// What a request without a route is. OSS's callbacks have these headers; who looks for pages has neither.
fn unrouted(headers: &HeaderMap) -> RequestErrorKind {
    if headers.contains_key(AUTHORIZATION) || headers.contains_key(PUB_KEY_URL) {
        RequestErrorKind::RouteUnknown
    } else {
        RequestErrorKind::PageUnknown
    }
}
