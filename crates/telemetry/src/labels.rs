//! Label values, all from fixed tables.

use prometheus_client::encoding::EncodeLabelSet;

/// Everything that no table names.
pub const OTHER: &str = "other";

/// Codes of gRPC by number (gRPC over HTTP/2, "Status codes").
const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PathLabel {
    pub path: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    pub path: &'static str,
    pub code: &'static str,
}

/// The rpc of the generated table, or the plain HTTP folder that `path` lies in.
pub fn path(path: &str, folders: &[&'static str]) -> &'static str {
    if let Some(rpc) = obscura_proto::rpc(path) {
        return rpc.path;
    }
    let covers = |folder: &&&'static str| {
        path.strip_prefix(folder.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    folders.iter().find(covers).copied().unwrap_or(OTHER)
}

/// The name of the code in a `grpc-status` field.
pub fn grpc_code(field: &[u8]) -> &'static str {
    let number = std::str::from_utf8(field).ok().and_then(|text| text.parse::<usize>().ok());
    number.and_then(|number| GRPC_CODES.get(number)).copied().unwrap_or(OTHER)
}

/// The class of a status where its number tells an operator nothing more.
pub fn http_code(status: http::StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "403",
        404 => "404",
        409 => "409",
        429 => "429",
        503 => "503",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_an_rpc_of_ours_or_a_folder_or_other() {
        let folders = ["/objects/", "/healthz"];
        assert_eq!(
            path("/obscura.keys.v1.KeysService/GetIntakeKey", &folders),
            "/obscura.keys.v1.KeysService/GetIntakeKey"
        );
        assert_eq!(path("/objects/some-camera/secret", &folders), "/objects/");
        assert_eq!(path("/healthz", &folders), "/healthz");
        assert_eq!(path("/objectsecret", &folders), OTHER);
        assert_eq!(path("/jane.doe@example.org", &folders), OTHER);
    }

    #[test]
    fn a_code_is_one_of_grpcs_or_other() {
        assert_eq!(grpc_code(b"0"), "OK");
        assert_eq!(grpc_code(b"16"), "UNAUTHENTICATED");
        for odd in [b"17".as_slice(), b"", b"-1", b"\xff", b"999999999999999999999999"] {
            assert_eq!(grpc_code(odd), OTHER);
        }
    }

    #[test]
    fn an_http_status_has_at_most_ten_labels() {
        let labels: std::collections::HashSet<_> =
            (100..=999).map(|code| http_code(http::StatusCode::from_u16(code).unwrap())).collect();
        assert!(labels.len() <= 10, "{labels:?}");
    }
}
