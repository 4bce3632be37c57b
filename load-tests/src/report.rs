//! Results as one JSON object per line and metric.

use std::time::Duration;

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

/// The time that so large a share of them does not exceed, in milliseconds; `sorted` from short to long.
#[must_use]
pub fn quantile_ms(sorted: &[Duration], share: f64) -> f64 {
    let within = |at: &usize| count(at + 1) >= share * count(sorted.len());
    let at = (0..sorted.len()).find(within).unwrap_or_default();
    sorted.get(at).copied().unwrap_or_default().as_secs_f64() * 1_000.0
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}
