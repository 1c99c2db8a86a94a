//! The OSS upload callback protocol, both sides. Pure.
