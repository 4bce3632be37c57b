//! Opening rows: the keys of epochs and holds, each opened once for one piece of work.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use obscura_row_cipher::{self as row_cipher, Failed};
use obscura_seal::NodeSet;
use sea_orm::ConnectionTrait;
use zeroize::Zeroizing;

use crate::{
    custody::Custody,
    epoch_key::{EpochKey, root},
    error::Error,
    expiry_hour::ExpiryHour,
    hold::HoldId,
    key_encryption::{Row, RowKind, WrappedSecret},
    row_key::{Place, RowKey},
    store::{
        epoch::{self, EpochRow},
        held_key::HeldRow,
        hold::{self, HoldRow},
        kept_key::KeptRow,
    },
};

/// Rotations that may overtake one reading; each takes many times as long as the reading.
const MAX_REREADS: usize = 3;

/// Keys opened so far. `None` stands for a key whose secret is erased.
pub struct Keyring<'a, C> {
    custody: &'a Custody,
    database: &'a C,
    epochs: BTreeMap<ExpiryHour, Option<Arc<EpochKey>>>,
    holds: BTreeMap<HoldId, Option<Arc<RowKey>>>,
}

impl<'a, C: ConnectionTrait> Keyring<'a, C> {
    /// No key yet.
    pub const fn new(custody: &'a Custody, database: &'a C) -> Self {
        Self { custody, database, epochs: BTreeMap::new(), holds: BTreeMap::new() }
    }

    /// The key of an epoch; `None` once it is destroyed.
    ///
    /// # Errors
    /// [`Error::Damaged`] where its row is missing or does not open.
    pub async fn epoch(&mut self, hour: ExpiryHour) -> Result<Option<Arc<EpochKey>>, Error> {
        match self.epochs.entry(hour) {
            Entry::Occupied(opened) => Ok(opened.get().clone()),
            Entry::Vacant(unopened) => {
                let key = self.custody.stored_epoch(self.database, hour).await?.map(Arc::new);
                Ok(unopened.insert(key).clone())
            }
        }
    }

    /// The key of a hold; `None` once it is destroyed.
    ///
    /// # Errors
    /// [`Error::Damaged`] where its row is missing or does not open.
    pub async fn hold(&mut self, id: HoldId) -> Result<Option<Arc<RowKey>>, Error> {
        match self.holds.entry(id) {
            Entry::Occupied(opened) => Ok(opened.get().clone()),
            Entry::Vacant(unopened) => {
                let key = self.custody.stored_hold(self.database, id).await?.map(Arc::new);
                Ok(unopened.insert(key).clone())
            }
        }
    }

    /// What is left of a layer key within its retention; nothing where its epoch is destroyed.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub async fn kept(&mut self, row: &KeptRow) -> Result<NodeSet, Error> {
        match self.epoch(row.expiry).await? {
            Some(key) => key.open(row.place(), row.leaf, &row.sealed),
            None => Ok(NodeSet::new(Vec::new())),
        }
    }

    /// What a hold has of a layer key.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub async fn held(&mut self, row: &HeldRow) -> Result<NodeSet, Error> {
        let place = Place { hold: Some(row.hold), expiry: row.expiry, context: &row.context };
        match self.hold(row.hold).await? {
            Some(key) => key.open(place, &row.sealed),
            None => Ok(NodeSet::new(Vec::new())),
        }
    }
}

impl Custody {
    /// Makes a new key for an epoch: its secret is durable on return, its row is for the caller to store.
    /// Call it with a writer in hand: a rotation retires older versions only while it is the writer.
    pub(crate) async fn make_epoch(&self, hour: ExpiryHour) -> Result<(EpochRow, EpochKey), Error> {
        let (secret, half) = (epoch_secret(hour)?, row_cipher::generate()?);
        let tree = self.parts.secrets.create(&secret)?;
        self.epoch_of(hour, secret, tree, half.as_ref()).await
    }

    /// Makes a new key for an epoch of what is left of the tree of its old one, in the same way.
    pub(crate) async fn thin_epoch(
        &self,
        hour: ExpiryHour,
        tree: NodeSet,
        half: &[u8],
    ) -> Result<(EpochRow, EpochKey), Error> {
        let secret = epoch_secret(hour)?;
        self.parts.secrets.put(&secret, &tree)?;
        self.epoch_of(hour, secret, tree, half).await
    }

    /// The row and the key of an epoch with these halves.
    pub(crate) async fn epoch_of(
        &self,
        hour: ExpiryHour,
        secret: String,
        tree: NodeSet,
        half: &[u8],
    ) -> Result<(EpochRow, EpochKey), Error> {
        let wrapped = self.wrap(RowKind::EpochHalf, &epoch_id(hour, &secret), half).await?;
        let key = EpochKey::new(tree, Zeroizing::new(half.to_vec()));
        Ok((EpochRow { hour, secret, half: wrapped, stale: false }, key))
    }

    /// The half inside the database.
    pub(crate) async fn half_of(&self, epoch: &EpochRow) -> Result<Zeroizing<Vec<u8>>, Error> {
        let id = epoch_id(epoch.hour, &epoch.secret);
        self.unwrap(RowKind::EpochHalf, &id, &epoch.half, || self.epoch_name(epoch.hour)).await
    }

    /// Makes a new key for a hold, in the same way.
    pub(crate) async fn make_hold_key(&self, id: HoldId) -> Result<(String, WrappedSecret, RowKey), Error> {
        let secret = format!("hold-{id}-{}", random_name()?);
        let half = row_cipher::generate()?;
        let outside = self.parts.secrets.create(&secret)?;
        let wrapped = self.wrap(RowKind::HoldHalf, &hold_id(id, &secret), half.as_ref()).await?;
        let key = RowKey::derive(root(&outside).ok_or(Failed)?, half.as_ref());
        Ok((secret, wrapped, key))
    }

    /// Puts the half of an epoch's key under the newest version.
    pub(crate) async fn rewrap_epoch(&self, row: EpochRow) -> Result<EpochRow, Error> {
        let id = epoch_id(row.hour, &row.secret);
        let half = self.rewrap(RowKind::EpochHalf, &id, &row.half, || self.epoch_name(row.hour)).await?;
        Ok(EpochRow { half, ..row })
    }

    /// Puts the half of the key of a standing hold under the newest version.
    pub(crate) async fn rewrap_hold(&self, row: HoldRow) -> Result<HoldRow, Error> {
        let name = || format!("hold {}", row.hold.id);
        let half = row.half.as_ref().ok_or_else(|| Error::Damaged { row: name() })?;
        let id = hold_id(row.hold.id, &row.secret);
        let half = self.rewrap(RowKind::HoldHalf, &id, half, name).await?;
        Ok(HoldRow { half: Some(half), ..row })
    }

    /// Opens a wrapped secret; one that does not open is damage, which `name` names.
    pub(crate) async fn unwrap(
        &self,
        kind: RowKind,
        id: &str,
        wrapped: &WrappedSecret,
        name: impl FnOnce() -> String,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let row = Row { kind, id, zone: &self.parts.zone };
        self.parts.encryption.unwrap(row, wrapped).await.map_err(Error::opening(name))
    }

    /// Wraps a secret under the newest version. Call it with a writer in hand.
    pub(crate) async fn wrap(&self, kind: RowKind, id: &str, secret: &[u8]) -> Result<WrappedSecret, Error> {
        Ok(self.parts.encryption.wrap(Row { kind, id, zone: &self.parts.zone }, secret).await?)
    }

    pub(crate) fn epoch_name(&self, hour: ExpiryHour) -> String {
        format!("epoch key {}/{hour}", self.parts.zone)
    }

    async fn rewrap(
        &self,
        kind: RowKind,
        id: &str,
        wrapped: &WrappedSecret,
        name: impl FnOnce() -> String,
    ) -> Result<WrappedSecret, Error> {
        let half = self.unwrap(kind, id, wrapped, name).await?;
        self.wrap(kind, id, &half).await
    }

    /// The key of an epoch that has a row; `None` once its secret is erased.
    pub(crate) async fn stored_epoch(
        &self,
        database: &impl ConnectionTrait,
        hour: ExpiryHour,
    ) -> Result<Option<EpochKey>, Error> {
        let stored = self.stored_key(database, Owner::Epoch(hour)).await?;
        Ok(stored.map(|(tree, half)| EpochKey::new(tree, half)))
    }

    async fn stored_hold(
        &self,
        database: &impl ConnectionTrait,
        id: HoldId,
    ) -> Result<Option<RowKey>, Error> {
        let stored = self.stored_key(database, Owner::Hold(id)).await?;
        Ok(stored.and_then(|(outside, half)| Some(RowKey::derive(root(&outside)?, &half))))
    }

    /// Reads and opens the halves of a key.
    ///
    /// Without a turn among writers, a rotation may move the row and destroy the version it was under
    /// between the two steps. So a row that does not open is read again, and only one that stands
    /// unchanged is damaged.
    async fn stored_key(
        &self,
        database: &impl ConnectionTrait,
        owner: Owner,
    ) -> Result<Option<(NodeSet, Zeroizing<Vec<u8>>)>, Error> {
        let damaged = || Error::Damaged { row: self.owner_name(owner) };
        let mut stored = self.halves(database, owner).await?.ok_or_else(damaged)?;
        for _ in 0..MAX_REREADS {
            let Some(outside) = self.parts.secrets.read(&stored.secret)? else { return Ok(None) };
            match self.unwrap_half(owner, &stored).await {
                Err(error @ Error::Damaged { .. }) => {
                    let again = self.halves(database, owner).await?.ok_or_else(damaged)?;
                    if again == stored {
                        return Err(error);
                    }
                    stored = again;
                }
                opened => return Ok(Some((outside, opened?))),
            }
        }
        Err(damaged())
    }

    async fn halves(&self, database: &impl ConnectionTrait, owner: Owner) -> Result<Option<Halves>, Error> {
        Ok(match owner {
            Owner::Epoch(hour) => {
                let row = epoch::get(database, &self.parts.zone, hour).await?;
                row.map(|row| Halves { secret: row.secret, half: row.half })
            }
            Owner::Hold(id) => {
                let row = hold::get(database, id).await?;
                row.and_then(|row| Some(Halves { secret: row.secret, half: row.half? }))
            }
        })
    }

    async fn unwrap_half(
        &self,
        owner: Owner,
        Halves { secret, half }: &Halves,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (kind, id) = match owner {
            Owner::Epoch(hour) => (RowKind::EpochHalf, epoch_id(hour, secret)),
            Owner::Hold(hold) => (RowKind::HoldHalf, hold_id(hold, secret)),
        };
        self.unwrap(kind, &id, half, || self.owner_name(owner)).await
    }

    fn owner_name(&self, owner: Owner) -> String {
        match owner {
            Owner::Epoch(hour) => self.epoch_name(hour),
            Owner::Hold(id) => format!("hold {id}"),
        }
    }
}

/// Whose key it is.
#[derive(Clone, Copy)]
enum Owner {
    Epoch(ExpiryHour),
    Hold(HoldId),
}

/// What a row says of its key: the name of the half outside the database, and the wrapped half inside.
#[derive(PartialEq, Eq)]
struct Halves {
    secret: String,
    half: WrappedSecret,
}

/// Bound into the wrapped half, so that halves cannot be exchanged between secrets.
fn epoch_id(hour: ExpiryHour, secret: &str) -> String {
    format!("{hour}/{secret}")
}

fn hold_id(id: HoldId, secret: &str) -> String {
    format!("{id}/{secret}")
}

fn epoch_secret(hour: ExpiryHour) -> Result<String, Error> {
    Ok(secrets_of(hour) + &random_name()?)
}

/// What the names of all secrets of an epoch begin with.
pub fn secrets_of(hour: ExpiryHour) -> String {
    format!("epoch-{hour}-")
}

/// Of which epoch a secret is; `None` for one of a hold.
pub fn hour_of_secret(name: &str) -> Option<ExpiryHour> {
    let (hour, _) = name.strip_prefix("epoch-")?.split_once('-')?;
    hour.parse().ok().map(ExpiryHour::from_number)
}

/// Of which hold a secret is; `None` for one of an epoch.
pub fn hold_of_secret(name: &str) -> Option<HoldId> {
    let (id, _) = name.strip_prefix("hold-")?.rsplit_once('-')?;
    id.parse().ok()
}

/// Tells secrets of the same epoch apart.
fn random_name() -> Result<String, Error> {
    Ok(row_cipher::generate()?.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}
