//! Users of a server who may not do everything, and consumers that begin at once with a database of nothing.

use futures_util::future::join_all;
use upcall_consumer::Sink;
use upcall_sink_sql::{Options, SqlSink, TableName};
use upcall_telemetry::error_chain;
use upcall_tests::executable::workspace;
use upcall_tests::sql::Engine;

use crate::events::{apply, upload};
use crate::site::{Kind, Site, check, on_each_database, uploads};

on_each_database! {
    consumers_that_begin_at_once_make_each_their_tables
}

#[test]
fn a_user_of_postgres_who_makes_no_tables_is_enough_once_they_are_there() {
    check(Kind::Server(Engine::Postgres), rights_are_enough_and_named);
}

#[test]
fn a_user_of_mariadb_who_makes_no_tables_is_enough_once_they_are_there() {
    check(Kind::Server(Engine::MariaDb), rights_are_enough_and_named);
}

async fn rights_are_enough_and_named(mut site: Site) {
    let (start, place) = site.url.split_once('@').unwrap();
    let database = place.rsplit('/').next().unwrap().to_owned();
    let user = format!("{database}_reader");
    let url = format!("{}://{user}:secret@{place}", start.split(':').next().unwrap());
    let create = site.says("", "CREATE ROLE NAME LOGIN PASSWORD 'secret'", "CREATE USER NAME IDENTIFIED BY 'secret'");
    site.execute(&create.replace("NAME", &user)).await;
    if !site.is_mariadb() {
        // As newer ones have it from the start.
        site.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    }
    let complaint = async |url: &str| {
        let options = Options { consumer: Some("catalog".to_owned()), ..Options::new(url, uploads()) };
        let prepared = SqlSink::new(options).unwrap().prepare().await;
        prepared.err().map(|error| error_chain(&*error)).unwrap_or_default()
    };
    // MariaDB wants a right on something before it lets anybody in.
    site.execute("CREATE TABLE other (a INTEGER)").await;
    site.execute(&format!("GRANT SELECT ON other TO {user}")).await;
    let nothing = complaint(&url).await;
    assert!(
        nothing.contains("may not make or alter tables") && nothing.contains("docs/reference/sql-sink.md"),
        "{nothing}"
    );

    let reference = std::fs::read_to_string(workspace().join("docs/reference/sql-sink.md")).unwrap();
    let heading = site.says("", "\n## PostgreSQL\n", "\n## MySQL and MariaDB\n");
    let (_, section) = reference.split_once(heading).unwrap();
    let statements = section.split_once("```sql\n").unwrap().1.split("```").next().unwrap();
    site.execute(statements).await;
    for table in ["uploads", "uploads_history", "uploads_applied", "upcall_tables"] {
        site.execute(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user}")).await;
    }
    assert_eq!(complaint(&url).await, "");
    let options = Options { consumer: Some("catalog".to_owned()), ..Options::new(url.clone(), uploads()) };
    let sink = SqlSink::new(options).unwrap();
    sink.prepare().await.unwrap();
    apply(&sink, &[upload(1, "a", 0)]).await;
    assert_eq!(site.count("uploads").await, 1);
    sink.close().await;

    // A newer version wants a column more.
    site.execute("ALTER TABLE upcall_tables DROP COLUMN consumer").await;
    let column = complaint(&url).await;
    assert!(column.contains("may not make or alter tables") && column.contains("ALTER TABLE"), "{column}");
    // MySQL's names are in such quotes themselves.
    let said = match site.is_mariadb() {
        true => "ALTER TABLE upcall_tables ADD COLUMN consumer VARCHAR(255)",
        false => column.split('`').find(|text| text.starts_with("ALTER TABLE")).unwrap(),
    };
    site.execute(said).await;
    assert_eq!(complaint(&url).await, "");

    site.execute(&format!("REVOKE SELECT ON upcall_tables FROM {user}")).await;
    let select = complaint(&url).await;
    assert!(
        select.contains("denies its user a right") && select.contains("uploads, uploads_applied, upcall_tables"),
        "{select}"
    );
    assert!(!select.contains("secret"), "{select}");
}

async fn consumers_that_begin_at_once_make_each_their_tables(mut site: Site) {
    let begun = (0..8).map(|number| {
        let table: TableName = format!("uploads_{number}").parse().unwrap();
        let sink =
            SqlSink::new(Options { consumer: Some(format!("consumer-{number}")), ..site.options(table) }).unwrap();
        async move { sink.prepare().await.map_err(|error| error_chain(&*error)) }
    });
    let begun = join_all(begun).await;
    assert!(begun.iter().all(Result::is_ok), "{begun:?}");
    assert_eq!(site.count("upcall_tables").await, 16);
}
