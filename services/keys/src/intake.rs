//! The intake key: the pair to which recorders wrap layer keys, made at the first start.

use obscura_ids::ZoneId;
use obscura_row_cipher::Failed;
use obscura_seal::RecipientKeyPair;

use crate::{
    error::Error,
    key_encryption::{KeyEncryption, Row, RowKind},
    store::{IntakeRow, Store},
};

/// Id of the one intake key that a zone has.
const ID: &str = "intake";

/// The row in which the private half stands.
pub const fn row(zone: &ZoneId) -> Row<'_> {
    Row { kind: RowKind::IntakeKey, id: ID, zone }
}

/// Opens the zone's intake key, or makes it; it is durable on return.
pub async fn open_or_create(
    store: &Store,
    encryption: &dyn KeyEncryption,
    zone: &ZoneId,
) -> Result<RecipientKeyPair, Error> {
    match store.intake_key(zone).await? {
        Some(stored) => open(encryption, zone, &stored).await,
        None => create(store, encryption, zone).await,
    }
}

async fn open(
    encryption: &dyn KeyEncryption,
    zone: &ZoneId,
    stored: &IntakeRow,
) -> Result<RecipientKeyPair, Error> {
    let name = || format!("the intake key of zone {zone}");
    let damaged = || Error::Damaged { row: name() };
    let private = encryption.unwrap(row(zone), &stored.private_key).await.map_err(Error::opening(name))?;
    let pair = RecipientKeyPair::from_private_bytes(&private).map_err(|_| damaged())?;
    // Recorders would wrap to a public half that someone exchanged.
    if pair.public().0[..] == stored.public_key[..] { Ok(pair) } else { Err(damaged()) }
}

async fn create(
    store: &Store,
    encryption: &dyn KeyEncryption,
    zone: &ZoneId,
) -> Result<RecipientKeyPair, Error> {
    let pair = RecipientKeyPair::generate().map_err(|_| Failed)?;
    let writer = store.write().await?;
    let wrapped = encryption.wrap(row(zone), &pair.private_bytes()).await?;
    writer.put_intake_key(zone, &pair.public().0, wrapped).await?;
    writer.commit().await?;
    Ok(pair)
}
