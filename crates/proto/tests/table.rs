//! The table of who may call what, checked against the protos it comes from.

#![expect(clippy::unwrap_used, reason = "a panic in a test or bench is a failure with a line number")]

use obscura_proto::{DESCRIPTORS, RPCS, rpc};
use prost_reflect::DescriptorPool;

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTORS).unwrap()
}

#[test]
fn every_rpc_is_in_the_table_and_nothing_else() {
    let pool = pool();
    let mut expected = Vec::new();
    for service in pool.services() {
        expected
            .extend(service.methods().map(|method| format!("/{}/{}", service.full_name(), method.name())));
    }
    let mut found: Vec<String> = RPCS.iter().map(|row| row.path.to_owned()).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert!(rpc("/obscura.keys.v1.KeysService/GiveMeEverything").is_none());
}

#[test]
fn every_releasing_rpc_takes_a_grant_and_a_status_note() {
    let pool = pool();
    for row in RPCS.iter().filter(|row| row.releases) {
        let (service, method) = row.path[1..].split_once('/').unwrap();
        let service = pool.get_service_by_name(service).unwrap();
        let method = service.methods().find(|found| found.name() == method).unwrap();
        for field in ["grant", "status_note"] {
            assert!(method.input().get_field_by_name(field).is_some(), "{} lacks {field}", row.path);
        }
    }
    assert!(RPCS.iter().any(|row| row.releases));
}

#[test]
fn no_rpc_returns_key_material_to_the_recorder() {
    let pool = pool();
    for row in RPCS.iter().filter(|row| row.callers.contains(&"ingest")) {
        let (service, method) = row.path[1..].split_once('/').unwrap();
        let service = pool.get_service_by_name(service).unwrap();
        let method = service.methods().find(|found| found.name() == method).unwrap();
        assert!(!row.releases, "{} releases and may be called by ingest", row.path);
        let output = method.output();
        assert!(output.fields().all(|field| !field.name().contains("secret")), "{}", row.path);
    }
}
