//! The store that the settings name, ready for use.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::Router;
use obscura_blob::{
    BlobStore, Error as BlobError, LocalDirectory, RetryPolicy, S3Bucket, Timeouts, WithRetry, WithTimeout,
    probe,
};
use obscura_clock::SharedClock;
use obscura_daemon::Config;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    handed,
    http::Objects,
    links::{BucketLinks, Links, OwnLinks},
    metrics::Metrics,
    url_signer::UrlSigner,
};

/// How long the self-test may take before the service starts without its verdict.
const PROBE: Duration = Duration::from_secs(60);

/// Where objects rest, and how to get them there.
#[derive(Debug)]
pub struct Opened {
    /// The store, with patience and an end to it.
    pub blobs: Arc<dyn BlobStore>,
    /// Links to its objects.
    pub links: Arc<dyn Links>,
    /// Routes that move objects, where this service does it.
    pub routes: Router,
    /// What kind of store it is, in words.
    pub kind: &'static str,
    /// What it does not do, and what that costs.
    pub limitations: Vec<String>,
}

/// Opens the store and tries it.
///
/// # Errors
/// Says which setting cannot work, or why the store refuses us. One that does not answer is no error:
/// recorders go on without it, and so does everything that needs the index only.
pub async fn open(
    settings: &Settings,
    config: &Config,
    clock: &SharedClock,
    metrics: Metrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<Opened> {
    let mut opened = match &settings.s3 {
        Some(_) if settings.object_directory.is_some() => {
            bail!("set `object_directory` or [settings.s3], not both: objects rest in one place")
        }
        Some(s3) => {
            let bucket =
                S3Bucket::open(&s3.load()?, Arc::clone(clock)).context("cannot use [settings.s3]")?;
            in_bucket(bucket, clock)
        }
        None => in_directory(settings, config, clock, metrics, shutdown).await?,
    };
    opened.limitations = self_test(&*opened.blobs, opened.kind).await?;
    Ok(opened)
}

fn in_bucket(bucket: S3Bucket, clock: &SharedClock) -> Opened {
    let timely = WithTimeout::new(Arc::new(bucket.clone()), Timeouts::default());
    Opened {
        blobs: Arc::new(WithRetry::new(Arc::new(timely), RetryPolicy::default())),
        links: Arc::new(BucketLinks { bucket, clock: Arc::clone(clock) }),
        routes: Router::new(),
        kind: "S3",
        limitations: Vec::new(),
    }
}

async fn in_directory(
    settings: &Settings,
    config: &Config,
    clock: &SharedClock,
    metrics: Metrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<Opened> {
    let (directory, data) = (settings.objects(&config.data_dir), config.data_dir.as_path());
    let opened = tokio::task::spawn_blocking(move || LocalDirectory::open(&directory)).await?;
    let blobs: Arc<dyn BlobStore> = Arc::new(opened.context("cannot use the object directory")?);
    let signer = Arc::new(url_signer(data)?);
    let address = settings.public_address(config)?;
    let objects = Arc::new(Objects::new(Arc::clone(&blobs), Arc::clone(&signer), Arc::clone(clock), metrics));
    if let Some(socket) = &config.hand_over_socket {
        handed::listen(socket, Arc::clone(&objects), shutdown.clone())?;
    }
    Ok(Opened {
        blobs,
        links: Arc::new(OwnLinks { signer, address }),
        routes: objects.router(),
        kind: "local directory",
        limitations: Vec::new(),
    })
}

fn url_signer(data: &Path) -> anyhow::Result<UrlSigner> {
    UrlSigner::open(&data.join("url.key")).context("cannot use the key for URLs")
}

/// Tries everything that is asked of the store. The verdict is for the operator; nothing is switched off.
async fn self_test(blobs: &dyn BlobStore, kind: &'static str) -> anyhow::Result<Vec<String>> {
    let limitations = match tokio::time::timeout(PROBE, probe(blobs)).await {
        Ok(Ok(found)) => found.iter().map(ToString::to_string).collect(),
        Ok(Err(error @ BlobError::Refused { .. })) => {
            return Err(error).context("the object store cannot be used");
        }
        Ok(Err(error)) => vec![untried(&error.to_string())],
        Err(_) => vec![untried(&format!("no verdict within {} s", PROBE.as_secs()))],
    };
    for limitation in &limitations {
        tracing::warn!(kind, limitation, "the object store has a limitation");
    }
    if limitations.is_empty() {
        tracing::info!(kind, "the object store does everything that is asked of it");
    }
    Ok(limitations)
}

fn untried(why: &str) -> String {
    format!(
        "the object store could not be tried when the service started ({why}): what it can do is not known"
    )
}

#[cfg(test)]
mod tests {
    use obscura_blob::{Fault, Overwriting, WithFaults};
    use obscura_clock::SystemClock;
    use obscura_test_servers::seaweedfs;
    use tempfile::TempDir;

    use super::*;

    fn local(directory: &TempDir) -> Arc<dyn BlobStore> {
        Arc::new(LocalDirectory::open(directory.path()).unwrap())
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_used_and_its_limitation_is_kept() {
        let directory = TempDir::new().unwrap();
        let found = self_test(&Overwriting::new(local(&directory)), "S3").await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("If-None-Match"), "{found:?}");
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_does_not_keep_the_service_from_starting() {
        let directory = TempDir::new().unwrap();
        let store = WithFaults::new(local(&directory));
        store.script([Fault::Unavailable]);
        let found = self_test(&*store, "S3").await.unwrap();
        assert!(found[0].starts_with("the object store could not be tried"), "{found:?}");
        assert!(self_test(&*store, "S3").await.unwrap().is_empty(), "it is there again");
    }

    /// What comes of starting with a bucket and these keys.
    async fn start(directory: &TempDir, settings: &str, secret: &str) -> anyhow::Result<Opened> {
        let server = seaweedfs::shared();
        let at = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(at("access"), server.credentials().0).unwrap();
        std::fs::write(at("secret"), secret).unwrap();
        let config = format!(
            "service = \"storage\"\nzone = \"eea\"\ndata_dir = {:?}\nidentity_dir = \"/x\"\ntrust_file = \"/x\"\n\
             [settings.s3]\nendpoint = {:?}\nregion = {:?}\naccess_key_file = {:?}\nsecret_key_file = {:?}\n{settings}",
            at("data"),
            server.endpoint(),
            server.region(),
            at("access"),
            at("secret"),
        );
        let config: Config = toml::from_str(&config).unwrap();
        let settings: Settings = config.settings.clone().try_into().unwrap();
        let shutdown = CancellationToken::new();
        open(&settings, &config, &SystemClock::shared(), Metrics::default(), &shutdown).await
    }

    #[tokio::test]
    async fn a_bucket_is_opened_and_tried() {
        let (directory, server) = (TempDir::new().unwrap(), seaweedfs::shared());
        let settings = format!("bucket = {:?}\nallow_http = true\n", server.new_bucket());
        let opened = start(&directory, &settings, server.credentials().1).await.unwrap();
        assert_eq!((opened.kind, opened.limitations), ("S3", vec![]));
        assert!(opened.blobs.list("", None, 10).await.unwrap().is_empty(), "the self-test left nothing");
    }

    #[tokio::test]
    async fn wrong_keys_and_plain_http_are_told_in_words_and_without_the_secret() {
        let (directory, server) = (TempDir::new().unwrap(), seaweedfs::shared());
        let bucket = format!("bucket = {:?}\n", server.new_bucket());
        let allowed = bucket.clone() + "allow_http = true\n";
        for (settings, words) in [(&allowed, "compare `secret_key_file`"), (&bucket, "set `allow_http`")] {
            let error = format!("{:#}", start(&directory, settings, "wrongsecret").await.unwrap_err());
            assert!(error.contains(words) && !error.contains("wrongsecret"), "{error}");
        }
    }
}
