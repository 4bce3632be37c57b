//! Values as they stand in a leaf.

use obscura_proto::footage::v1::{Layer, Span};
use serde_json::{Value, json};

/// A moment in RFC 3339, UTC, with as many digits as it needs.
pub fn moment(unix_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).map(|moment| moment.to_string()).unwrap_or_default()
}

/// A moment, or nothing where there is none.
pub fn optional_moment(unix_ns: i64) -> Value {
    if unix_ns == 0 { Value::Null } else { moment(unix_ns).into() }
}

/// First moment, inclusive, and last, exclusive.
pub fn span(span: &Span) -> Value {
    json!({ "start": moment(span.start_unix_ns), "end": moment(span.end_unix_ns) })
}

/// A span, or nothing for everything.
pub fn optional_span(value: Option<&Span>) -> Value {
    value.map_or(Value::Null, span)
}

/// Spans in their order.
pub fn spans(values: &[Span]) -> Value {
    values.iter().map(span).collect()
}

/// Name of a layer.
pub fn layer(code: i32) -> &'static str {
    match Layer::try_from(code) {
        Ok(Layer::Original) => "original",
        Ok(Layer::Masked) => "masked",
        Ok(Layer::Metadata) => "metadata",
        Ok(Layer::Unspecified) | Err(_) => "unknown",
    }
}

/// Names of layers.
pub fn layers(codes: &[i32]) -> Value {
    codes.iter().map(|code| layer(*code)).collect()
}

/// UUIDs in their order.
pub fn ids(ids: &[String]) -> Value {
    ids.iter().map(String::as_str).collect()
}
