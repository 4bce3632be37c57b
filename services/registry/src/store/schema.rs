//! Tables, written once as entities and created from them on any database that sea-orm knows.

use obscura_database::{Migration, create_table};
use sea_orm::{DbBackend, Statement};

/// How the tables came to be.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "sites, cameras, snapshot", statements: first_tables },
    Migration { version: 2, name: "staged audit events", statements: obscura_outbox::staged::create_table },
];

fn first_tables(backend: DbBackend) -> Vec<Statement> {
    [
        create_table(backend, site::Entity),
        create_table(backend, camera::Entity),
        create_table(backend, snapshot::Entity),
    ]
    .concat()
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
