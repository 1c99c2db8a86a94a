//! OSS on your own machine: real uploads in, genuinely signed callbacks out.
