//! Which route a request is for, and which target OSS signed.

use std::borrow::Cow;
use std::collections::HashMap;

use tokio::sync::Semaphore;
use upcall_callback::{Target, TargetError};
use upcall_responder::Responder;
use upcall_verifier::Route;

use crate::options::RouteOptions;

/// The callback paths.
///
/// A route *is* the path that OSS signed. It is found by that path where a trusted proxy says what the original target
/// was, and otherwise by the path at which its requests arrive; either way the signed path is what is verified.
#[derive(Debug, Default)]
pub(crate) struct RouteTable {
    routes: Vec<BoundRoute>,
    by_signed: HashMap<String, usize>,
    by_arriving: HashMap<String, usize>,
}

/// A route with its place in the table.
#[derive(Debug)]
pub(crate) struct BoundRoute {
    pub(crate) index: usize,
    pub(crate) policy: Route,
    pub(crate) responder: Responder,
    /// Places for questions that wait for the route's service. A bound of its own for each route, so that a service that
    /// hangs is in nobody else's way.
    pub(crate) questions: Semaphore,
    public_path: Option<String>,
}

/// A request's route, and the raw target that OSS signed.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) route: &'a BoundRoute,
    pub(crate) signed: Cow<'a, str>,
}

/// A mistake in the routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoutes {
    /// There is no route.
    #[error("there is no route: without one no callback is taken")]
    None,
    /// A path is none.
    #[error("route {route:?}: {key} {path:?} is no path: {cause}")]
    Path {
        /// The route's name.
        route: String,
        /// `path` or `public_path`.
        key: &'static str,
        /// The path as it was written.
        path: String,
        /// What is wrong.
        cause: TargetError,
    },
    /// A path has a query.
    #[error("route {route:?}: {key} {path:?} has a query; a route is found by its path alone")]
    Query {
        /// The route's name.
        route: String,
        /// `path` or `public_path`.
        key: &'static str,
        /// The path as it was written.
        path: String,
    },
    /// Two routes can't be told apart.
    #[error("routes {first:?} and {second:?} can't be told apart: both have the {what} path {path:?}")]
    Collision {
        /// One route's name.
        first: String,
        /// The other's.
        second: String,
        /// `signed` or `arriving`.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// Two routes take the notifications of one bucket.
    #[error("routes {first:?} and {second:?} can't be told apart: both take the notifications of bucket {bucket:?}")]
    Notifications {
        /// One route's name.
        first: String,
        /// The other's.
        second: String,
        /// The bucket.
        bucket: String,
    },
    /// Two routes have one name.
    #[error("two routes have the name {name:?}")]
    Name {
        /// The name.
        name: String,
    },
}

/// Checks routes without binding anything.
///
/// # Errors
/// With every mistake.
pub fn check_routes(routes: Vec<RouteOptions>) -> Result<(), Vec<InvalidRoutes>> {
    RouteTable::new(routes).map(drop)
}

impl RouteTable {
    /// Checks the routes.
    ///
    /// # Errors
    /// With every mistake.
    pub(crate) fn new(options: Vec<RouteOptions>) -> Result<Self, Vec<InvalidRoutes>> {
        let mut mistakes = Vec::new();
        let mut table = Self { routes: Vec::new(), by_signed: HashMap::new(), by_arriving: HashMap::new() };
        if options.is_empty() {
            mistakes.push(InvalidRoutes::None);
        }
        for (index, RouteOptions { path, public_path, policy, responder }) in options.into_iter().enumerate() {
            let name = policy.name().to_owned();
            if table.routes.iter().any(|route| route.policy.name() == name) {
                mistakes.push(InvalidRoutes::Name { name: name.clone() });
            }
            let mut read = |key, path: &str| decode(&name, key, path).map_err(|mistake| mistakes.push(mistake)).ok();
            let arriving = read("path", &path);
            let signed = match &public_path {
                Some(public_path) => read("public_path", public_path),
                None => arriving.clone(),
            };
            let mut enter = |paths: &mut HashMap<String, usize>, what, path: Option<String>| {
                let Some(path) = path else { return };
                if let Some(first) = paths.insert(path.clone(), index) {
                    let first = table.routes[first].policy.name().to_owned();
                    mistakes.push(InvalidRoutes::Collision { first, second: name.clone(), what, path });
                }
            };
            enter(&mut table.by_arriving, "arriving", arriving);
            enter(&mut table.by_signed, "signed", signed);
            for bucket in policy.buckets().iter().filter(|_| policy.takes_notifications()) {
                if let Some(first) = table.of_notifications(bucket) {
                    let (first, bucket) = (first.policy.name().to_owned(), bucket.clone());
                    mistakes.push(InvalidRoutes::Notifications { first, second: name.clone(), bucket });
                }
            }
            let questions = match &responder {
                Responder::Template(_) => 0,
                Responder::Service(asking) => asking.options.concurrency.get().min(Semaphore::MAX_PERMITS),
            };
            let questions = Semaphore::new(questions);
            table.routes.push(BoundRoute { index, policy, responder, questions, public_path });
        }
        if mistakes.is_empty() { Ok(table) } else { Err(mistakes) }
    }

    /// Whether there is no route, so that no callbacks are taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The routes' names, and how each answers.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (&str, &Responder)> {
        self.routes.iter().map(|route| (route.policy.name(), &route.responder))
    }

    /// The route that takes the notifications of a bucket.
    pub(crate) fn of_notifications(&self, bucket: &str) -> Option<&BoundRoute> {
        let takes = |policy: &Route| policy.takes_notifications() && policy.buckets().iter().any(|own| own == bucket);
        self.routes.iter().find(|route| takes(&route.policy))
    }

    /// Finds the route of a request whose original target a trusted proxy has told.
    ///
    /// # Errors
    /// If the target is none that OSS signs.
    pub(crate) fn find_signed<'a>(&'a self, original: &'a str) -> Result<Option<Found<'a>>, TargetError> {
        let target = Target::parse(original)?;
        let route = self.by_signed.get(target.path()).map(|index| &self.routes[*index]);
        Ok(route.map(|route| Found { route, signed: Cow::Borrowed(original) }))
    }

    /// Finds the route of a request as it arrived, and what OSS signed: its own target, or the route's public path with
    /// the same raw query.
    ///
    /// # Errors
    /// If the target is none that OSS signs.
    pub(crate) fn find_arriving<'a>(&'a self, raw: &'a str) -> Result<Option<Found<'a>>, TargetError> {
        let target = Target::parse(raw)?;
        let Some(index) = self.by_arriving.get(target.path()) else { return Ok(None) };
        let route = &self.routes[*index];
        let signed = match (&route.public_path, target.query()) {
            (None, _) => Cow::Borrowed(raw),
            (Some(path), None) => Cow::Borrowed(path.as_str()),
            (Some(path), Some(query)) => Cow::Owned(format!("{path}?{query}")),
        };
        Ok(Some(Found { route, signed }))
    }
}

/// The decoded path.
fn decode(route: &str, key: &'static str, path: &str) -> Result<String, InvalidRoutes> {
    let (route, written) = (route.to_owned(), path.to_owned());
    match Target::parse(path) {
        Ok(target) if target.query().is_some() => Err(InvalidRoutes::Query { route, key, path: written }),
        Ok(target) => Ok(target.path().to_owned()),
        Err(cause) => Err(InvalidRoutes::Path { route, key, path: written, cause }),
    }
}

#[cfg(test)]
mod tests;
