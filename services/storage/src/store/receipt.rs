//! Receipts of destruction as they came, and what they destroyed, by layer key.

use obscura_clock::Timestamp;
use obscura_ids::LayerKeyId;
use obscura_proto::keys::v1::SignedShredReceipt;
use obscura_seal::{Hour, Slot, SlotRange};
use prost::Message as _;
use sea_orm::{
    ActiveValue::Set, ExprTrait as _, QueryOrder as _, QuerySelect as _, entity::prelude::*, sea_query::Expr,
};

use super::{Error, pack, signed, unsigned};
use crate::expiry::receipt::{Receipt, ShreddedKey};

/// Rows in one statement.
const ROWS: usize = 500;

/// What became unreadable, and by which receipt.
pub mod shredded_key {
    use sea_orm::entity::prelude::*;

    /// A part of a layer key.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "shredded_keys")]
    pub struct Model {
        /// Number of the receipt.
        #[sea_orm(primary_key, auto_increment = false)]
        pub receipt: i64,
        /// Position in the receipt, from 0.
        #[sea_orm(primary_key, auto_increment = false)]
        pub position: i64,
        /// 16 bytes.
        #[sea_orm(indexed)]
        pub key_id: Vec<u8>,
        /// 16 bytes.
        pub camera: Vec<u8>,
        /// Code of the layer.
        pub layer: i16,
        /// Hours since the Unix epoch.
        pub hour: i64,
        /// First slot, inclusive.
        pub first_slot: i16,
        /// Last slot, inclusive.
        pub last_slot: i16,
    }

    /// None: rows are found by key or by receipt.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A receipt, whole: custody that was restored from a backup gets it back from here.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "receipts")]
pub struct Model {
    /// Its number.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// Since when it is effective, nanoseconds since the Unix epoch.
    pub effective_ns: i64,
    /// Whether it came before the retention ended.
    pub early: bool,
    /// The serialised `SignedShredReceipt`.
    pub signed: Vec<u8>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A part of a layer key, and the receipt of its destruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shredded {
    /// Number of the receipt.
    pub receipt: u64,
    /// Position in it.
    pub position: u64,
    /// What was destroyed.
    pub key: ShreddedKey,
}

/// What an event says of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Its number.
    pub number: u64,
    /// Since when it is effective.
    pub effective: Timestamp,
    /// Whether it came before the retention ended.
    pub is_early: bool,
    /// The serialised `SignedShredReceipt`.
    pub signed: Vec<u8>,
}

pub(super) async fn insert(database: &impl ConnectionTrait, receipt: &Receipt) -> Result<(), Error> {
    let row = ActiveModel {
        number: Set(signed(receipt.number)),
        effective_ns: Set(receipt.effective.unix_nanos()),
        early: Set(receipt.is_early),
        signed: Set(receipt.signed.to_vec()),
    };
    Entity::insert(row).exec_without_returning(database).await?;
    let rows: Vec<_> =
        (0_u64..).zip(&receipt.keys).map(|(at, key)| active(receipt.number, at, key)).collect();
    for rows in rows.chunks(ROWS) {
        shredded_key::Entity::insert_many(rows.to_vec()).exec_without_returning(database).await?;
    }
    Ok(())
}

fn active(receipt: u64, position: u64, key: &ShreddedKey) -> shredded_key::ActiveModel {
    let slot = |slot: Slot| i16::try_from(slot.get()).unwrap_or(i16::MAX);
    shredded_key::ActiveModel {
        receipt: Set(signed(receipt)),
        position: Set(signed(position)),
        key_id: Set(key.key.as_bytes().to_vec()),
        camera: Set(key.camera.as_bytes().to_vec()),
        layer: Set(key.layer.code().into()),
        hour: Set(key.hour.get().into()),
        first_slot: Set(slot(key.slots.first())),
        last_slot: Set(slot(key.slots.last())),
    }
}

pub(super) async fn find(database: &impl ConnectionTrait, number: u64) -> Result<Option<ReceiptRow>, Error> {
    let row = Entity::find_by_id(signed(number)).one(database).await?;
    Ok(row.map(|row| ReceiptRow {
        number,
        effective: Timestamp::from_unix_nanos(row.effective_ns),
        is_early: row.early,
        signed: row.signed,
    }))
}

/// Receipts with a greater number, in order: at most `limit`, and no more than fit `bytes` but for the first.
pub(super) async fn after(
    database: &impl ConnectionTrait,
    number: u64,
    limit: u64,
    bytes: u64,
) -> Result<Vec<SignedShredReceipt>, Error> {
    let lengths: Vec<(i64, i64)> = Entity::find()
        .select_only()
        .column(Column::Number)
        .expr_as(Expr::cust("LENGTH(signed)").cast_as("BIGINT"), "length")
        .filter(Column::Number.gt(signed(number)))
        .order_by_asc(Column::Number)
        .limit(limit)
        .into_tuple()
        .all(database)
        .await?;
    let mut sum = 0_u64;
    let fits = |(_, length): &&(i64, i64)| {
        let is_first = sum == 0;
        sum = sum.saturating_add(length.unsigned_abs());
        is_first || sum <= bytes
    };
    let Some((last, _)) = lengths.iter().take_while(fits).last() else { return Ok(Vec::new()) };
    let page = Column::Number.gt(signed(number)).and(Column::Number.lte(*last));
    let rows = Entity::find().filter(page).order_by_asc(Column::Number).all(database).await?;
    let read = |row: Model| SignedShredReceipt::decode(&*row.signed);
    rows.into_iter().map(read).collect::<Result<_, _>>().map_err(|_| Error::Corrupt("a receipt that is none"))
}

/// What is destroyed of these keys.
pub(super) async fn of_keys(
    database: &impl ConnectionTrait,
    keys: &[LayerKeyId],
) -> Result<Vec<Shredded>, Error> {
    let ids = keys.iter().map(|key| key.as_bytes().to_vec());
    let rows =
        shredded_key::Entity::find().filter(shredded_key::Column::KeyId.is_in(ids)).all(database).await?;
    rows.into_iter().map(Shredded::try_from).collect()
}

/// The first part at this place or behind it, in the order of receipts.
pub(super) async fn from_place(
    database: &impl ConnectionTrait,
    receipt: u64,
    position: u64,
) -> Result<Option<Shredded>, Error> {
    use shredded_key::Column::{Position, Receipt};
    let within = Receipt.eq(signed(receipt)).and(Position.gte(signed(position)));
    let row = shredded_key::Entity::find()
        .filter(Receipt.gte(signed(receipt)))
        .filter(within.or(Receipt.gt(signed(receipt))))
        .order_by_asc(Receipt)
        .order_by_asc(Position)
        .limit(1)
        .one(database)
        .await?;
    row.map(Shredded::try_from).transpose()
}

/// Since when the receipt with the greatest number is effective.
pub(super) async fn newest(database: &impl ConnectionTrait) -> Result<Option<Timestamp>, Error> {
    let newest = Entity::find().order_by_desc(Column::Number).one(database).await?;
    Ok(newest.map(|row| Timestamp::from_unix_nanos(row.effective_ns)))
}

/// Forgets some of what was effective before a moment. Returns the numbers.
pub(super) async fn prune(database: &impl ConnectionTrait, before_ns: i64) -> Result<Vec<i64>, Error> {
    let old = Entity::find().select_only().column(Column::Number).filter(Column::EffectiveNs.lt(before_ns));
    let numbers: Vec<i64> = old.limit(100).into_tuple().all(database).await?;
    let keys = shredded_key::Column::Receipt.is_in(numbers.clone());
    shredded_key::Entity::delete_many().filter(keys).exec(database).await?;
    Entity::delete_many().filter(Column::Number.is_in(numbers.clone())).exec(database).await?;
    Ok(numbers)
}

impl TryFrom<shredded_key::Model> for Shredded {
    type Error = Error;

    fn try_from(row: shredded_key::Model) -> Result<Self, Error> {
        let slot = |slot: i16| Slot::new(u16::try_from(slot).unwrap_or(u16::MAX)).ok();
        let slots = slot(row.first_slot).zip(slot(row.last_slot));
        let slots = slots.and_then(|(first, last)| SlotRange::new(first, last).ok());
        let hour = u32::try_from(row.hour).ok().and_then(|hour| Hour::new(hour).ok());
        let key = row.key_id.try_into().map(LayerKeyId::from_bytes);
        let key = ShreddedKey {
            key: key.map_err(|_| Error::Corrupt("a layer key id that is none"))?,
            camera: pack::camera_id(row.camera)?,
            layer: pack::layer(row.layer)?,
            hour: hour.ok_or(Error::Corrupt("an hour that is none"))?,
            slots: slots.ok_or(Error::Corrupt("slots that no hour has"))?,
        };
        Ok(Self {
            receipt: unsigned(row.receipt, "a negative number of a receipt")?,
            position: unsigned(row.position, "a negative position")?,
            key,
        })
    }
}
