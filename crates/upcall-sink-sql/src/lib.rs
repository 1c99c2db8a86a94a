//! The sink that keeps a table of uploads in a SQL database.
