//! Generated messages, services and the table of who may call what.
//!
//! Everything here comes from `proto/`; nothing is written by hand except the shape of [`Rpc`].

#![expect(
    clippy::all,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code"
)]

/// Who may call one rpc.
#[derive(Clone, Copy, Debug)]
pub struct Rpc {
    /// HTTP/2 path, for example `/obscura.keys.v1.KeysService/ReleaseNodes`.
    pub path: &'static str,
    /// Last segments of the SPIFFE ids that may call it, for example `ingest`.
    pub callers: &'static [&'static str],
    /// Whether the reply releases footage or key material, so that a grant is needed.
    pub releases: bool,
}

include!(concat!(env!("OUT_DIR"), "/callers.rs"));

/// The row of `path`, where such an rpc exists.
#[must_use]
pub fn rpc(path: &str) -> Option<&'static Rpc> {
    RPCS.iter().find(|rpc| rpc.path == path)
}

/// All files of `proto/` as one serialised `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// Grants, receipts and status notes.
pub mod access {
    pub mod v1 {
        tonic::include_proto!("obscura.access.v1");
    }
}
/// The log that nobody can edit, and what producers tell it.
pub mod audit {
    pub mod v1 {
        tonic::include_proto!("obscura.audit.v1");
    }
}
/// Layers, spans, gaps, packs.
pub mod footage {
    pub mod v1 {
        tonic::include_proto!("obscura.footage.v1");
    }
}
/// The recorder.
pub mod ingest {
    pub mod v1 {
        tonic::include_proto!("obscura.ingest.v1");
    }
}
/// Custody of layer keys.
pub mod keys {
    pub mod v1 {
        tonic::include_proto!("obscura.keys.v1");
    }
}
/// Sites, cameras, purposes and zones.
pub mod registry {
    pub mod v1 {
        tonic::include_proto!("obscura.registry.v1");
    }
}
/// The index of packs, and signed URLs to them.
pub mod storage {
    pub mod v1 {
        tonic::include_proto!("obscura.storage.v1");
    }
}
