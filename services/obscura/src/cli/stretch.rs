//! A stretch of one camera's footage, as several commands take it.

use std::time::Duration;

use clap::Args;
use obscura_clock::{Span, Timestamp};
use obscura_ids::Layer;
use obscura_proto::footage::v1::Span as SpanMessage;

use crate::{
    problem::{Problem, Result},
    when::{self, When},
};

/// Which footage of which camera.
#[derive(Clone, Debug, Args)]
pub struct Stretch {
    /// Name of the camera, or its id
    pub camera: String,
    /// Start: RFC 3339, -2m (two minutes ago) or now
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: When,
    /// End
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "length")]
    to: Option<When>,
    /// Length from the start, for example 1h30m
    #[arg(long = "for", id = "length", value_name = "DURATION", value_parser = when::duration, required_unless_present = "to")]
    length: Option<Duration>,
    /// Only this layer: original, masked or metadata; may be given several times
    #[arg(long = "layer", value_name = "LAYER")]
    layers: Vec<Layer>,
}

impl Stretch {
    /// The span as a message, seen from `now`.
    pub fn span(&self, now: Timestamp) -> Result<SpanMessage> {
        let start = self.from.resolve(now);
        let end = match (self.to, self.length) {
            (Some(to), _) => to.resolve(now),
            (None, length) => start + length.unwrap_or_default(),
        };
        let span = Span::try_new(start, end).filter(|span| !span.duration().is_zero());
        span.map(message).ok_or_else(|| {
            Problem::usage("the span ends before it starts")
                .next("--from is the earlier time, --to the later one")
        })
    }

    /// Codes of the layers; none stands for all.
    pub fn layers(&self) -> Vec<i32> {
        self.layers.iter().map(|layer| i32::from(layer.code())).collect()
    }
}

fn message(span: Span) -> SpanMessage {
    SpanMessage { start_unix_ns: span.start().unix_nanos(), end_unix_ns: span.end().unix_nanos() }
}

/// A span for a person, in the time zone of this machine.
pub fn shown(span: Option<&SpanMessage>) -> (String, String) {
    let at = |nanos| when::local(Timestamp::from_unix_nanos(nanos));
    span.map(|span| (at(span.start_unix_ns), at(span.end_unix_ns))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(to: Option<When>, length: Option<Duration>) -> Stretch {
        let from = When::Ago(Duration::from_secs(60));
        Stretch { camera: "door".into(), from, to, length, layers: vec![Layer::Masked] }
    }

    #[test]
    fn a_stretch_ends_at_a_time_or_after_a_length_and_never_before_it_starts() {
        let now = Timestamp::from_unix_nanos(1_000_000_000_000);
        let ends = |stretch: Stretch| stretch.span(now).map(|span| span.end_unix_ns - span.start_unix_ns);
        assert_eq!(ends(stretch(Some(When::Now), None)).unwrap(), 60_000_000_000);
        assert_eq!(ends(stretch(None, Some(Duration::from_secs(5)))).unwrap(), 5_000_000_000);
        assert!(ends(stretch(Some(When::Ago(Duration::from_secs(61))), None)).is_err());
        assert!(ends(stretch(None, None)).is_err());
        assert_eq!(stretch(None, None).layers(), [2]);
    }
}
