//! Tables, written once as entities and created from them on any database that sea-orm knows.

use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, QueryOrder as _, Schema, TransactionTrait as _,
};

use crate::error::Error;

/// Version of the tables below. Grows with every change to them, together with a step that brings
/// older databases forward.
const VERSION: i32 = 1;

/// Creates what is missing, in one transaction: a crash leaves the old database or the new one.
///
/// # Errors
/// [`Error::NewerSchema`] for a database from the future, [`Error::Store`] where the database fails.
pub async fn migrate(database: &sea_orm::DatabaseConnection) -> Result<(), Error> {
    let change = database.begin().await?;
    create(&change, version::Entity).await?;
    let newest = version::Entity::find().order_by_desc(version::Column::Version).one(&change).await?;
    match newest.map(|row| row.version) {
        Some(found) if found > VERSION => return Err(Error::NewerSchema { found, known: VERSION }),
        Some(_) => {}
        None => {
            create(&change, site::Entity).await?;
            create(&change, camera::Entity).await?;
            create(&change, snapshot::Entity).await?;
            version::Entity::insert(version::ActiveModel { version: Set(VERSION) }).exec(&change).await?;
        }
    }
    Ok(change.commit().await?)
}

async fn create(database: &impl ConnectionTrait, table: impl EntityTrait) -> Result<(), DbErr> {
    let mut statement = Schema::new(database.get_database_backend()).create_table_from_entity(table);
    database.execute(statement.if_not_exists()).await?;
    Ok(())
}

/// Which version the tables have.
pub mod version {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "schema_version")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: i32,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Sites.
pub mod site {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "site")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub site_id: String,
        pub name: String,
        /// The name without regard to case.
        #[sea_orm(unique)]
        pub name_key: String,
        pub latitude: f64,
        pub longitude: f64,
        pub attested_by: String,
        pub attested_unix_ns: i64,
        /// Null where its cameras need a decision.
        pub country: Option<String>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Cameras, removed ones too.
pub mod camera {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "camera")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub camera_id: String,
        pub name: String,
        /// The name without regard to case; null once removed, so that the name is free again.
        #[sea_orm(unique)]
        pub live_name_key: Option<String>,
        /// A serialised `obscura.registry.v1.Camera`, as published.
        pub record: Vec<u8>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// The newest snapshot, one row.
pub mod snapshot {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "snapshot")]
    pub struct Model {
        /// Two writers that make the same version collide here.
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: i64,
        /// A serialised `obscura.registry.v1.SignedSnapshot`, as published.
        pub signed: Vec<u8>,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
