//! The catalogue as documentation, made from the examples, so that it says what the code does.

use std::{collections::BTreeSet, fmt::Write as _};

use obscura_proto::audit::v1::{Event, event::Body};
use serde_json::Value;

use crate::{
    KINDS,
    examples::{ExamplePersons, example_source, examples},
    kind,
    leaf::encode,
};

const HEAD: &str = "\
# Audit events

This page is generated (`cargo run -p obscura-ocsf --example catalogue`); a test keeps it true.

Every entry of the audit log is one [CloudEvent 1.0](https://cloudevents.io) in canonical JSON (RFC 8785) whose `data` is an
event of [OCSF](https://schema.ocsf.io) 1.5.0 that is valid in 1.8.0 too. The same bytes are the leaf of the log and what the
feeds deliver. `type` is `eu.obscura.<kind>.v1`, `source` the SPIFFE id of the service, `id` the event's UUID.

What is about a person is never in clear. Who acted is a pseudonym, `actor.user.uid`, that changes with the period and leads
nowhere once the person's keys are destroyed. Names, addresses, reasons and the like are sealed under that person's key and
stand in `data.unmapped.sealed`: a map from the JSON pointer (RFC 6901, into `data`) at which they belong once opened, to the
ciphertext in base64. Words of a service in which the person's id, address or name occurs are sealed in the same way, and the
word `sealed` stands in their place. Whom a change names beside the one who acted is in `data.unmapped.named`: the field, `before`
or `after`, a pseudonym, and the name sealed under the key of whom it names.

";

/// The page `docs/audit-events.md`.
#[must_use]
pub fn catalogue_markdown() -> String {
    let rows: Vec<Row> = examples().iter().filter_map(Row::of).collect();
    let mut page = HEAD.to_owned();
    page.push_str("| kind and act | OCSF class | activity | severity | sealed |\n|---|---|---|---|---|\n");
    let mut seen = BTreeSet::new();
    for row in rows.iter().filter(|row| seen.insert(row.cells())) {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{}", row.cells());
    }
    page.push_str("\n\\* No service produces it yet: it comes with accounts and with masks.\n");
    page.push_str("\nA refused or failed act has `status_id` 2 and at least severity low.\n");
    for name in KINDS {
        if let Some(row) = rows.iter().find(|row| row.kind == name) {
            let pretty = serde_json::to_string_pretty(&row.leaf).unwrap_or_default();
            let _ = write!(page, "\n## {name}\n\n```json\n{pretty}\n```\n");
        }
    }
    page
}

/// Whether nothing produces such an event yet.
pub fn is_awaited(event: &Event) -> bool {
    match &event.body {
        Some(Body::Session(_)) => true,
        Some(Body::Grant(decision)) => decision.lift,
        _ => false,
    }
}

struct Row {
    kind: &'static str,
    is_awaited: bool,
    leaf: Value,
}

impl Row {
    fn of(event: &Event) -> Option<Self> {
        let leaf = encode(event, &example_source(), &mut ExamplePersons).ok()?;
        let leaf = serde_json::from_slice(&leaf.bytes).ok()?;
        Some(Self { kind: kind(event)?, is_awaited: is_awaited(event), leaf })
    }

    fn cells(&self) -> String {
        let text = |pointer: &str| self.at(pointer).as_str().unwrap_or_default().to_owned();
        let sealed = self.at("/data/unmapped/sealed").as_object().into_iter().flat_map(|map| map.keys());
        // Who acted and from where is the same in all of them.
        let own: Vec<_> =
            sealed.filter(|pointer| is_own(pointer)).map(|pointer| format!("`{pointer}`")).collect();
        format!(
            "| `{}`{} | {} {} | {} {} | {} | {} |",
            text("/data/metadata/event_code"),
            if self.is_awaited { "\\*" } else { "" },
            self.at("/data/class_uid"),
            text("/data/class_name"),
            self.at("/data/activity_id"),
            text("/data/activity_name"),
            severity(self.at("/data/severity_id")),
            own.join(", "),
        )
    }

    fn at(&self, pointer: &str) -> &Value {
        self.leaf.pointer(pointer).unwrap_or(&Value::Null)
    }
}

fn is_own(pointer: &str) -> bool {
    !pointer.starts_with("/actor") && !pointer.starts_with("/src_endpoint") && pointer != "/unmapped/address"
}

fn severity(id: &Value) -> &'static str {
    match id.as_u64() {
        Some(1) => "informational",
        Some(2) => "low",
        Some(3) => "medium",
        Some(4) => "high",
        _ => "",
    }
}
