//! The HTTP face of Upcall: takes callbacks, answers with JSON, and serves the admin endpoints.
