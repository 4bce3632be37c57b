mod catalogue;
mod limits;
mod persons;

use obscura_proto::audit::v1::{Event, event::Body};
use serde_json::Value;

use crate::{ExamplePersons, Leaf, encode, example_source, examples, kind};

fn leaf_of(event: &Event) -> Leaf {
    encode(event, &example_source(), &mut ExamplePersons).unwrap()
}

fn json_of(event: &Event) -> Value {
    serde_json::from_slice(&leaf_of(event).bytes).unwrap()
}

/// The first example of a kind.
fn example(name: &str) -> Event {
    examples().into_iter().find(|event| kind(event) == Some(name)).unwrap()
}

fn with_body(mut event: Event, body: Body) -> Event {
    event.body = Some(body);
    event
}

/// The same JSON by a library for RFC 8785.
fn canonical(leaf: &str) -> String {
    let parsed: Value = serde_json::from_str(leaf).unwrap();
    serde_json_canonicalizer::to_string(&parsed).unwrap()
}
