//! Settings with which an installation uses PostgreSQL and S3 instead of files of its own.

use std::{fs, path::Path};

use obscura_test_servers::{postgres::Postgres, seaweedfs::SeaweedFs};

/// Settings of every service with tables, in a database of their own, and of storage with objects, in a
/// bucket of its own. What is secret is written into `secrets`.
///
/// # Panics
/// Where that cannot be written.
#[must_use]
pub fn back_ends(database: &Postgres, store: &SeaweedFs, secrets: &Path) -> Vec<(&'static str, String)> {
    let file = |name: &str, content: &str| {
        let path = secrets.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let database = format!("database_url_file = \"{}\"\n", file("database-url", &database.new_database()));
    let (access, secret) = store.credentials();
    let objects = format!(
        "{database}[settings.s3]\nendpoint = \"{}\"\nregion = \"{}\"\nbucket = \"{}\"\nallow_http = true\naccess_key_file = \"{}\"\nsecret_key_file = \"{}\"\n",
        store.endpoint(),
        store.region(),
        store.new_bucket(),
        file("access-key", access),
        file("secret-key", secret),
    );
    vec![
        ("keys", database.clone()),
        ("audit", database.clone()),
        ("registry", database),
        ("storage", objects),
        ("ingest", "[settings.object_store]\nallow_http = true\n".to_owned()),
    ]
}
