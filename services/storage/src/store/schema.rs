//! Tables and indexes, from the entities.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, Schema,
    sea_query::{Index, IndexCreateStatement},
};

use super::{gap, pack, run};

/// Creates what is not there yet.
pub(super) async fn create(database: &DatabaseConnection) -> Result<(), DbErr> {
    create_table(database, pack::Entity).await?;
    create_table(database, run::Entity).await?;
    create_table(database, gap::Entity).await?;
    for index in indexes() {
        database.execute(&index).await?;
    }
    Ok(())
}

async fn create_table(database: &DatabaseConnection, entity: impl EntityTrait) -> Result<(), DbErr> {
    let mut table = Schema::new(database.get_database_backend()).create_table_from_entity(entity);
    database.execute(table.if_not_exists()).await?;
    Ok(())
}

/// Every query of packs and gaps walks one of these in order and stops.
fn indexes() -> [IndexCreateStatement; 2] {
    let packs = Index::create()
        .if_not_exists()
        .name("packs_by_time")
        .table(pack::Entity)
        .col(pack::Column::Camera)
        .col(pack::Column::Layer)
        .col(pack::Column::Long)
        .col(pack::Column::StartNs)
        .col(pack::Column::PackId)
        .col(pack::Column::EndNs)
        .to_owned();
    let gaps = Index::create()
        .if_not_exists()
        .name("gaps_by_time")
        .table(gap::Entity)
        .col(gap::Column::Camera)
        .col(gap::Column::StartNs)
        .to_owned();
    [packs, gaps]
}
