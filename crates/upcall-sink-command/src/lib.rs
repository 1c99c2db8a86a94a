//! The sink that runs a program.
