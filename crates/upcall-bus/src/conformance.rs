//! The suite that every bus passes.
