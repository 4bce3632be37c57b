//! Logs and metrics without personal data.
//!
//! Logs go to stderr, one line per event. Metrics are Prometheus's: rate, errors and duration of
//! every rpc come from [`RpcMetricsLayer`]; a service adds its own through [`Metrics::register`].
//! No label ever comes from a request: paths and codes are from fixed tables, so that neither a
//! name nor a flood of strangers' paths ends up in a time series.

mod labels;
mod log;
mod metrics;
mod rpc;

pub use log::init;
pub use metrics::{CONTENT_TYPE, Metrics};
pub use rpc::{MeasuredBody, MeasuredService, RpcMetricsLayer};
