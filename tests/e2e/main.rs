//! The built executable, as a user meets it.
