use proptest::prelude::*;

use super::*;

fn route(name: &str, path: &str, public_path: Option<&str>) -> RouteOptions {
    let policy = upcall_verifier::RouteOptions { name: name.to_owned(), ..Default::default() };
    RouteOptions {
        path: path.to_owned(),
        public_path: public_path.map(str::to_owned),
        policy: Route::new(policy).unwrap(),
        responder: Responder::default(),
    }
}

fn found(result: Result<Option<Found<'_>>, TargetError>) -> Option<(String, String)> {
    result.unwrap().map(|found| (found.route.policy.name().to_owned(), found.signed.into_owned()))
}

fn some(route: &str, signed: &str) -> Option<(String, String)> {
    Some((route.to_owned(), signed.to_owned()))
}

#[test]
fn a_route_is_found_where_it_arrives_and_verified_by_its_public_path() {
    let table =
        RouteTable::new(vec![route("a", "/a", Some("/api/a b".replace(' ', "%20").as_str())), route("b", "/b", None)]);
    let table = table.unwrap();
    assert_eq!(found(table.find_arriving("/a?x=%31&y")), some("a", "/api/a%20b?x=%31&y"));
    assert_eq!(found(table.find_arriving("/a?")), some("a", "/api/a%20b?"));
    assert_eq!(found(table.find_arriving("/a")), some("a", "/api/a%20b"));
    assert_eq!(found(table.find_arriving("/api/a%20b")), None);
    assert_eq!(found(table.find_arriving("/%62?")), some("b", "/%62?"));
    assert_eq!(found(table.find_arriving("/b/")), None);
    assert_eq!(found(table.find_arriving("//b")), None);

    assert_eq!(found(table.find_signed("/api/a%20b?x")), some("a", "/api/a%20b?x"));
    assert_eq!(found(table.find_signed("/a?x")), None, "the path that was signed is another");
    assert_eq!(found(table.find_signed("/b")), some("b", "/b"));
    assert!(table.find_signed("http://host/b").is_err());
}

#[track_caller]
fn check_mistakes(routes: &[(&str, &str, Option<&str>)], expected: &[&str]) {
    let routes = routes.iter().map(|(name, path, public_path)| route(name, path, *public_path)).collect();
    let mistakes: Vec<String> = RouteTable::new(routes).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(mistakes, expected);
}

#[test]
fn routes_that_can_not_be_told_apart_are_refused() {
    check_mistakes(&[], &["there is no route: without one no callback is taken"]);
    check_mistakes(
        &[("a", "/x", None), ("b", "/%78", None)],
        &[
            "routes \"a\" and \"b\" can't be told apart: both have the arriving path \"/x\"",
            "routes \"a\" and \"b\" can't be told apart: both have the signed path \"/x\"",
        ],
    );
    check_mistakes(
        &[("a", "/a", Some("/b")), ("b", "/b", None)],
        &["routes \"a\" and \"b\" can't be told apart: both have the signed path \"/b\""],
    );
    check_mistakes(
        &[("a", "/a", Some("/x")), ("b", "/a", Some("/y"))],
        &["routes \"a\" and \"b\" can't be told apart: both have the arriving path \"/a\""],
    );
    check_mistakes(&[("a", "/a", None), ("a", "/b", None)], &["two routes have the name \"a\""]);
    check_mistakes(
        &[("a", "a", Some("/b?c"))],
        &[
            "route \"a\": path \"a\" is no path: the request target is not a path with an optional query",
            "route \"a\": public_path \"/b?c\" has a query; a route is found by its path alone",
        ],
    );
}

proptest! {
    /// Whatever arrives, the path that is verified is that of the route which was found.
    #[test]
    fn the_signed_path_is_always_the_routes(at in 0..3_usize, query in "(\\?[!-\"$-~]{0,20})?", raw in "/[abc/%6]{0,4}") {
        let table = RouteTable::new(vec![route("a", "/a", None), route("b", "/b", Some("/c")), route("c", "/c", Some("/b"))]).unwrap();
        let signed_of = |name: &str| match name { "a" => "/a", "b" => "/c", _ => "/b" };
        for raw in [format!("{}{query}", ["/a", "/b", "/c"][at]), raw] {
            for find in [RouteTable::find_arriving, RouteTable::find_signed] {
                let Ok(Some(found)) = find(&table, &raw) else { continue };
                let signed = Target::parse(&found.signed).unwrap();
                prop_assert_eq!(signed.path(), signed_of(found.route.policy.name()));
                prop_assert_eq!(signed.query(), Target::parse(&raw).unwrap().query());
            }
        }
    }
}
