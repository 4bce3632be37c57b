//! Results as one JSON object per line and metric.

use serde::Serialize;
use serde_json::Value;

/// One metric beside that of a peer.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// Name of the bench.
    pub bench: &'a str,
    /// Name of the metric.
    pub metric: &'a str,
    /// What was measured.
    pub value: f64,
    /// Unit of both values.
    pub unit: &'a str,
    /// What it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<&'a str>,
    /// What the peer measured in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_value: Option<f64>,
    /// Under which conditions.
    pub params: Value,
}

impl Line<'_> {
    /// Prints the line to standard output, values with four digits.
    ///
    /// # Panics
    /// Never: the fields always serialise.
    pub fn print(mut self) {
        self.value = rounded(self.value);
        self.peer_value = self.peer_value.map(rounded);
        println!("{}", serde_json::to_string(&self).unwrap_or_default());
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
