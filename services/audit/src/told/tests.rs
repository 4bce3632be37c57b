//! What is told at a start, and that it is told once.

use super::*;
use crate::{
    persons::PeriodKey,
    test_support::{Backend, Place},
};

const FEEDS: &str = "[feeds.siem]\nkind = \"webhook\"\nurl = \"https://user:secret@siem.example/events\"\nsecret_file = \"none\"\n";

fn settings(text: &str) -> Settings {
    toml::from_str(text).unwrap()
}

#[tokio::test]
async fn settings_of_the_log_are_told_once_and_again_with_before_and_after_where_they_changed() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let bench = Place::new(backend).start(std::sync::Arc::new(crate::fault::NoFaults)).await;
        for text in ["", "", "retention_days = 30", "retention_days = 30"] {
            tell(&bench.log, &settings(text)).await.unwrap();
        }
        assert_eq!(bench.kinds().await, ["change", "change"], "{backend:?}");
        let leaf: Value = serde_json::from_str(&bench.leaf(1).await).unwrap();
        assert_eq!(leaf["data"]["unmapped"]["changed_fields"], json!(["retention_days"]));
        let key: PeriodKey = {
            let pseudonyms = bench.log.parts.persons.pseudonyms(&bench.log.parts.own_id).await.unwrap();
            bench.log.parts.persons.key_of(&pseudonyms[0]).await.unwrap().unwrap()
        };
        let opened = |pointer: &str| {
            let sealed = leaf["data"]["unmapped"]["sealed"][pointer].as_str().unwrap();
            key.open(leaf["id"].as_str().unwrap(), pointer, sealed).unwrap().to_string()
        };
        assert!(opened("/unmapped/before").contains("\"retention_days\":365"));
        assert!(opened("/unmapped/after").contains("\"retention_days\":30"));
    }
}

#[test]
fn a_feed_is_told_by_name_and_kind_and_without_its_address() {
    let text = json!(told(&settings(FEEDS))).to_string();
    assert!(text.contains("\"siem\":\"webhook\"") && !text.contains("secret"), "{text}");
}
