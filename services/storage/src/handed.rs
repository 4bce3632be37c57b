//! Packs that a recorder on this machine hands over by file descriptor.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use obscura_hand_over::{Handed, Listener};
use tokio::{net::UnixStream, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::http::Objects;

/// Connections at a time; the next ones wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 64;
/// After an accept that failed, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes what is handed over at `socket`, until told to stop.
///
/// # Errors
/// Where the socket cannot be made.
pub fn listen(socket: &Path, objects: Arc<Objects>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = Listener::bind(socket)
        .with_context(|| format!("cannot listen at {}: see `hand_over_socket`", socket.display()))?;
    tokio::spawn(async move {
        tokio::select! {
            () = take_all(&listener, &objects) => {}
            () = shutdown.cancelled() => {}
        }
    });
    Ok(())
}

async fn take_all(listener: &Listener, objects: &Arc<Objects>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let objects = Arc::clone(objects);
                tokio::spawn(async move {
                    take(stream, &objects).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a recorder could not hand a pack over");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn take(stream: UnixStream, objects: &Objects) {
    let taken = match Handed::receive(stream).await {
        Ok(handed) => objects.take(handed).await,
        Err(error) => Err(error),
    };
    if let Err(error) = taken {
        tracing::warn!(%error, "a pack was not handed over to its end");
    }
}

#[cfg(test)]
mod tests;
