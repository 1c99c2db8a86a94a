//! The official OSS SDKs against the simulator.
