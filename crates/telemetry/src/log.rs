use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{DefaultFields, Format, Json, JsonFields, Writer},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

const FILTER: &str = "OBSCURA_LOG";
const DEFAULT_LEVEL: &str = "info";

/// Writes the events of this process to stderr, each with the name of the service: as text, or as
/// one JSON object per line. The environment variable `OBSCURA_LOG` filters (`debug`, or
/// `info,obscura_keys=trace`); without it, or where it makes no sense, the level is `info`.
///
/// Calling it again changes nothing.
pub fn init(service: &str, json: bool) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(DEFAULT_LEVEL));
    // Someone who already listens, a test harness for example, goes on listening.
    let _ = tracing_subscriber::registry()
        .with(lines(service, json, std::io::stderr).with_filter(filter))
        .try_init();
}

fn lines<W>(service: &str, json: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let service = service.to_owned();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    if json {
        let inner = Format::default().json().flatten_event(true);
        layer.fmt_fields(JsonFields::new()).event_format(JsonLines { service, inner }).boxed()
    } else {
        layer
            .fmt_fields(DefaultFields::new())
            .event_format(TextLines { service, inner: Format::default() })
            .boxed()
    }
}

struct TextLines {
    service: String,
    inner: Format,
}

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "{} ", self.service)?;
        self.inner.format_event(ctx, writer, event)
    }
}

struct JsonLines {
    service: String,
    inner: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    /// The formatter has no place for a constant field: it goes in behind the opening brace.
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(ctx, Writer::new(&mut line), event)?;
        let fields = line.strip_prefix('{').unwrap_or(&line);
        write!(writer, "{{\"service\":{:?},{fields}", self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, event: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::registry().with(lines("keys", json, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, event);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_json_line_is_one_object_that_names_the_service() {
        let line = logged(true, || tracing::info!(rows = 3, "rotated \"all\""));
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["service"], "keys");
        assert_eq!(object["rows"], 3);
        assert_eq!(object["message"], "rotated \"all\"");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn a_text_line_starts_with_the_service() {
        let line = logged(false, || tracing::warn!("clock stepped"));
        assert!(
            line.starts_with("keys ") && line.contains("WARN") && line.ends_with("clock stepped\n"),
            "{line}"
        );
    }

    #[test]
    fn starting_twice_is_harmless() {
        init("keys", true);
        init("keys", false);
    }
}
