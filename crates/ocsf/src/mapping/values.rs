//! Values as they stand in a leaf.

use obscura_proto::footage::v1::{Layer, Span};

use crate::json::{Json, Object};

/// A moment in RFC 3339, UTC, with as many digits as it needs.
pub fn moment(unix_ns: i64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(unix_ns)).map(|moment| moment.to_string()).unwrap_or_default()
}

/// A moment, or nothing where there is none.
pub fn optional_moment(unix_ns: i64) -> Json<'static> {
    if unix_ns == 0 { Json::Nothing } else { moment(unix_ns).into() }
}

/// First moment, inclusive, and last, exclusive.
pub fn span(span: &Span) -> Json<'static> {
    let (start, end) = (moment(span.start_unix_ns), moment(span.end_unix_ns));
    Object::from([("end", end.into()), ("start", start.into())]).into()
}

/// A span, or nothing for everything.
pub fn optional_span(value: Option<&Span>) -> Json<'static> {
    value.map_or(Json::Nothing, span)
}

/// Spans in their order.
pub fn spans(values: &[Span]) -> Json<'static> {
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
pub fn layers(codes: &[i32]) -> Json<'static> {
    codes.iter().map(|code| layer(*code)).collect()
}

/// UUIDs in their order.
pub fn ids(ids: &[String]) -> Json<'_> {
    ids.iter().collect()
}
