//! Where packs rest: one contract, one conformance suite, a local directory.
