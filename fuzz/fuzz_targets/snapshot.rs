//! Placements and snapshots: nothing that the authority did not sign is believed, and what it signed is
//! read or refused.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use libfuzzer_sys::fuzz_target;
use obscura_proto::registry::v1::{SignedPlacement, SignedSnapshot};
use obscura_snapshot::AuthorityKey;

static SIGNER: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed"));
static KEY: LazyLock<AuthorityKey> = LazyLock::new(|| {
    AuthorityKey::from_bytes(SIGNER.public_key().as_ref().try_into().expect("a public key has 32 bytes"))
});

fuzz_target!(|input: (&[u8], &[u8])| {
    let (bytes, signature) = input;
    let placement = |signature: Vec<u8>| SignedPlacement {
        placement: bytes.to_vec().into(),
        signature: signature.into(),
    };
    let snapshot = |signature: Vec<u8>| SignedSnapshot {
        snapshot: bytes.to_vec().into(),
        signature: signature.into(),
    };
    assert!(KEY.verify_placement(&placement(signature.to_vec())).is_err());
    assert!(KEY.verify_snapshot(&snapshot(signature.to_vec())).is_err());
    let _ = KEY.verify_placement(&placement(sign(b"obscura placement v1\0", bytes)));
    if let Ok(snapshot) = KEY.verify_snapshot(&snapshot(sign(b"obscura snapshot v1\0", bytes))) {
        assert!(snapshot.version > 0);
    }
});

fn sign(domain: &[u8], bytes: &[u8]) -> Vec<u8> {
    SIGNER.sign(&[domain, bytes].concat()).as_ref().to_vec()
}
