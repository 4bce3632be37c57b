//! SPIFFE ids, trust domains and addresses of peers: whatever can be read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use obscura_identity::{Endpoint, SpiffeId, TrustDomain};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    for text in [text.to_owned(), format!("spiffe://shop.example/obscura/{text}"), format!("spiffe://{text}")] {
        if let Ok(id) = text.parse::<SpiffeId>() {
            assert_eq!(id.to_string(), text);
            assert!(text.ends_with(id.service()));
        }
    }
    if let Ok(domain) = text.parse::<TrustDomain>() {
        assert_eq!(domain.as_str(), text);
    }
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string(), text);
    }
});
