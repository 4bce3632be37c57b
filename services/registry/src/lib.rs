//! Sites, cameras, purposes, zones and their signed snapshots.
