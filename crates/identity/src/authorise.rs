//! Who may call what: one decision per request, deny by default.

use axum::body::Body;
use http::{HeaderMap, Response, header};
use obscura_status::{Code, Failure};

use crate::SpiffeId;

/// Who sent a request. [`crate::serve`] puts it into the extensions of every request it lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(pub SpiffeId);

/// Who may use a folder of plain HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Covers this path and everything below it: `/objects` covers `/objects/a`, not `/objectsa`.
    pub prefix: &'static str,
    /// Last segments of the SPIFFE ids that may use it.
    pub callers: &'static [&'static str],
}

/// What every service of the trust domain may ask.
const OPEN: [&str; 2] = ["/healthz", "/metrics"];
/// Where all rpcs of `proto/` live; never plain HTTP.
const RPC_FOLDER: &str = "/obscura.";

/// Whether `peer` may send a request to `path`. What is in no table is for nobody.
pub fn may_call(peer: &SpiffeId, path: &str, routes: &[Route]) -> bool {
    if let Some(rpc) = obscura_proto::rpc(path) {
        return rpc.callers.contains(&peer.service());
    }
    if path.starts_with(RPC_FOLDER) {
        return false;
    }
    OPEN.contains(&path)
        || routes.iter().any(|route| covers(route.prefix, path) && route.callers.contains(&peer.service()))
}

fn covers(prefix: &str, path: &str) -> bool {
    let folder = prefix.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The answer to a request that may not be: a gRPC status for gRPC, 403 for everything else.
pub fn refusal(peer: &SpiffeId, path: &str, headers: &HeaderMap) -> Response<Body> {
    // A path can carry a signature: only what stands in the table is written down.
    let rpc = obscura_proto::rpc(path).map_or("unlisted", |rpc| rpc.path);
    tracing::warn!(%peer, rpc, "refused: the peer is not among the callers");
    let words =
        format!("{} may not call this; proto/ and the routes of the service name who may", peer.service());
    let failure = Failure::new(Code::PermissionDenied, words);
    let grpc = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        return tonic::Status::from(failure).into_http();
    }
    let mut response = Response::new(Body::from(failure.external().to_owned()));
    *response.status_mut() = failure.code().http();
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const ROUTES: &[Route] = &[Route { prefix: "/objects/", callers: &["ingest"] }];

    fn peer(service: &str) -> SpiffeId {
        SpiffeId::new(&"shop".parse().unwrap(), service).unwrap()
    }

    #[test]
    fn every_rpc_is_for_its_callers_and_for_nobody_else() {
        for rpc in obscura_proto::RPCS {
            for caller in rpc.callers {
                assert!(may_call(&peer(caller), rpc.path, &[]), "{caller} {}", rpc.path);
            }
            assert!(!may_call(&peer("stranger"), rpc.path, &[]), "{}", rpc.path);
        }
    }

    #[test]
    fn an_rpc_that_is_in_no_table_is_for_nobody_even_under_a_route() {
        let all = [Route { prefix: "/", callers: &["cli"] }];
        assert!(!may_call(&peer("cli"), "/obscura.keys.v1.KeysService/StealEverything", &all));
        assert!(may_call(&peer("cli"), "/page", &all));
    }

    #[test]
    fn a_route_covers_its_folder_and_not_its_neighbours() {
        let ingest = peer("ingest");
        for path in ["/objects", "/objects/", "/objects/a/b"] {
            assert!(may_call(&ingest, path, ROUTES), "{path}");
            assert!(!may_call(&peer("cli"), path, ROUTES), "{path}");
        }
        for path in ["", "/", "/objectsa", "objects/a", "//objects/a", "/Objects/a"] {
            assert!(!may_call(&ingest, path, ROUTES), "{path}");
        }
    }

    #[test]
    fn health_and_metrics_are_open_to_every_service_but_not_what_lies_below() {
        assert!(may_call(&peer("anyone"), "/healthz", &[]));
        assert!(may_call(&peer("anyone"), "/metrics", &[]));
        assert!(!may_call(&peer("anyone"), "/metrics/more", &[]));
    }

    #[test]
    fn a_refusal_speaks_the_callers_protocol() {
        let mut headers = HeaderMap::new();
        assert_eq!(refusal(&peer("cli"), "/x", &headers).status(), http::StatusCode::FORBIDDEN);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        let response = refusal(&peer("cli"), "/x", &headers);
        assert_eq!(response.status(), http::StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "7");
    }

    proptest! {
        #[test]
        fn a_path_that_no_table_names_is_refused(path: String) {
            prop_assume!(!OPEN.contains(&path.as_str()));
            prop_assert!(!may_call(&peer("ingest"), &path, &[]));
        }
    }
}
