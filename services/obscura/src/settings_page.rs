//! `docs/settings.md` against the source: every setting has its row and every row its setting.

use std::{collections::BTreeMap, fs, path::Path};

/// Heading of the table, file, and the struct that serde reads.
const TABLES: &[(&str, &str, &str)] = &[
    ("every service", "crates/daemon/src/config.rs", "Config"),
    ("trust file", "crates/daemon/src/trust.rs", "Trust"),
    ("registry", "services/registry/src/config.rs", "Settings"),
    ("registry zones file", "services/registry/src/config.rs", "ZoneEntry"),
    ("keys", "services/keys/src/config.rs", "Settings"),
    ("audit", "services/audit/src/config.rs", "Settings"),
    ("audit object_store", "services/audit/src/object_store.rs", "BucketSettings"),
    ("audit witnesses", "services/audit/src/config.rs", "WitnessSettings"),
    ("audit feeds nats", "services/audit/src/feed/nats.rs", "Settings"),
    ("audit feeds webhook", "services/audit/src/feed/webhook.rs", "Settings"),
    ("audit feeds syslog", "services/audit/src/feed/syslog.rs", "Settings"),
    ("storage", "services/storage/src/config.rs", "Settings"),
    ("storage s3", "services/storage/src/config.rs", "S3"),
    ("ingest", "services/ingest/src/config.rs", "Settings"),
    ("ingest object_store", "services/ingest/src/config.rs", "ObjectStore"),
];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of the fields between `struct NAME {` and its end.
fn fields(source: &str, name: &str) -> Vec<String> {
    let start = source.find(&format!("struct {name} {{")).unwrap_or_else(|| panic!("no struct {name}"));
    let lines = source[start..].lines().skip(1).take_while(|line| *line != "}");
    let fields = lines.map(str::trim).filter(|line| !line.starts_with(['/', '#']));
    let names = fields.filter_map(|line| line.split_once(": "));
    names.map(|(name, _)| name.trim_start_matches("pub ").to_owned()).collect()
}

/// Names in the first column, by the heading of their table.
fn rows(page: &str) -> BTreeMap<&str, Vec<String>> {
    let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut heading = "";
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text;
        } else if let Some((name, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            assert!(line.matches(" |").count() >= 4, "a row has four columns: {line}");
            tables.entry(heading).or_default().push(name.to_owned());
        }
    }
    tables
}

#[test]
fn every_setting_is_on_the_page_and_nothing_else_is() {
    let page = read("docs/settings.md");
    let mut rows = rows(&page);
    for (heading, file, name) in TABLES {
        let expected = fields(&read(file), name);
        assert!(!expected.is_empty(), "{file}: struct {name} has no fields that are seen");
        let mut told = rows.remove(heading).unwrap_or_default();
        let mut known = expected.clone();
        told.sort();
        known.sort();
        assert_eq!(told, known, "table `{heading}` of docs/settings.md against {name} in {file}");
    }
    assert!(rows.is_empty(), "tables of nothing: {rows:?}");
}

/// A file of settings that no table above is about would not be noticed.
#[test]
fn every_file_of_settings_is_held_against_the_page() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for service in fs::read_dir(services).unwrap() {
        let file = service.unwrap().path().join("src/config.rs");
        let Ok(source) = fs::read_to_string(&file) else { continue };
        let structs = source.split("#[serde(").skip(1).filter(|part| part.contains("deny_unknown_fields"));
        for part in structs {
            let name = part.split("struct ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            let service = file.components().rev().nth(2).unwrap().as_os_str().to_str().unwrap();
            let known = TABLES.iter().any(|(_, path, table)| {
                *path == format!("services/{service}/src/config.rs") && *table == name
            });
            assert!(known || name == "ZonesFile", "{name} in {} has no table", file.display());
        }
    }
}

#[test]
fn fields_are_seen_with_their_names_as_they_stand_in_the_file() {
    let source = "/// A.\npub struct A {\n    /// One.\n    #[serde(default)]\n    pub one: Vec<String>,\n    two: u8,\n}\nstruct B {\n    pub three: u8,\n}\n";
    assert_eq!(fields(source, "A"), ["one", "two"]);
    let page = "## a\n\n| name | default | bounds | what |\n|---|---|---|---|\n| `one` | - | | x |\n";
    assert_eq!(rows(page)["a"], ["one"]);
}
