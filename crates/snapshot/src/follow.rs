//! Following the registry for ever.

use std::{sync::Arc, time::Duration};

use obscura_proto::registry::v1::{
    WatchSnapshotRequest, WatchSnapshotResponse, registry_service_client::RegistryServiceClient,
};
use tokio::{task, time};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};

use crate::{Cache, Error, MAX_SNAPSHOT_BYTES, backoff::Backoff};

/// How long the registry may take to answer and to send its newest snapshot. Later ones come when
/// they come; a connection that died meanwhile is found by the channel's keepalive.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Signature and framing beside the snapshot itself, in bytes.
const OVERHEAD_BYTES: usize = 1024;

/// Watches the registry's snapshots through `channel` and offers each to `cache`, until
/// `shutdown`. A registry that is away or sends something that is refused is tried again after
/// 0.1 to 30 s; meanwhile the cache keeps what it has and [`Cache::age`] grows.
pub async fn follow(cache: Arc<Cache>, channel: Channel, shutdown: CancellationToken) {
    let client =
        RegistryServiceClient::new(channel).max_decoding_message_size(MAX_SNAPSHOT_BYTES + OVERHEAD_BYTES);
    let _ = shutdown.run_until_cancelled(follow_for_ever(&cache, client)).await;
    cache.contact_lost();
}

async fn follow_for_ever(cache: &Arc<Cache>, mut client: RegistryServiceClient<Channel>) {
    let mut backoff = Backoff::new();
    loop {
        let lost = follow_one_stream(cache, &mut client, &mut backoff).await;
        cache.contact_lost();
        let wait = backoff.wait();
        lost.log(wait);
        time::sleep(wait).await;
    }
}

/// Returns when the stream ends, with the reason; a stream never ends well.
async fn follow_one_stream(
    cache: &Arc<Cache>,
    client: &mut RegistryServiceClient<Channel>,
    backoff: &mut Backoff,
) -> Lost {
    let request = WatchSnapshotRequest { known_version: cache.version() };
    let opening = async {
        let mut stream = client.watch_snapshot(request).await?.into_inner();
        let newest = next(&mut stream).await?;
        Ok((stream, newest))
    };
    let (mut stream, mut newest) = match time::timeout(ANSWER_DEADLINE, opening).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(status)) => return Lost::Away(status),
        Err(_) => return Lost::Away(Status::deadline_exceeded("no answer in 10 s")),
    };
    loop {
        if let Err(error) = offer(cache, newest).await {
            return Lost::Refused(error);
        }
        cache.contact_made();
        backoff.reset();
        newest = match next(&mut stream).await {
            Ok(response) => response,
            Err(status) => return Lost::Away(status),
        };
    }
}

async fn next(stream: &mut Streaming<WatchSnapshotResponse>) -> Result<WatchSnapshotResponse, Status> {
    stream.message().await?.ok_or_else(|| Status::unavailable("the registry closed the stream"))
}

/// Off the event loop, because it waits for the disk.
async fn offer(cache: &Arc<Cache>, response: WatchSnapshotResponse) -> Result<(), Error> {
    let signed = response.snapshot.ok_or_else(|| Error::malformed("snapshot", "the message is empty"))?;
    let cache = Arc::clone(cache);
    let offered = task::spawn_blocking(move || {
        let new = cache.offer(signed)?;
        if new {
            tracing::info!(version = cache.version(), "snapshot adopted");
        }
        Ok(())
    });
    offered.await.unwrap_or_else(|error| Err(Error::malformed("snapshot", error)))
}

/// Why a stream ended.
enum Lost {
    /// Expected now and then: the cached snapshot suffices.
    Away(Status),
    /// Someone must look: the registry and this service disagree about the past.
    Refused(Error),
}

impl Lost {
    fn log(&self, wait: Duration) {
        match self {
            Self::Away(status) => {
                tracing::info!(code = ?status.code(), ?wait, "registry away; the cached snapshot stays");
            }
            Self::Refused(error) => {
                tracing::error!(%error, ?wait, "snapshot refused; the cached one stays");
            }
        }
    }
}

#[cfg(test)]
mod tests;
