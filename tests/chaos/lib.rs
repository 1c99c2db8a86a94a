//! Conservation under faults: real processes, real servers, and an oracle to which every 200 is an obligation.
//!
//! A [`Fleet`] is what runs: NATS servers, gateways, a consumer, and a proxy on each link between them. A [`Load`] sends
//! it callbacks and tells the [`Oracle`] what was answered. [`fault::inject`] breaks one thing after the other. In the
//! end the [`Evidence`] is compared with the oracle. [`conserve`] does all of that.

mod catalog;
mod evidence;
pub mod facts;
pub mod fault;
mod fleet;
mod load;
mod oracle;
mod process;
mod random;
mod recorder;
mod run;
mod stream;
mod summary;
mod verdict;

pub use catalog::Catalog;
pub use evidence::Evidence;
pub use fleet::{Ack, Fleet, Setup};
pub use load::{Load, send_one};
pub use oracle::{Attempt, Oracle, Outcome};
pub use process::Process;
pub use recorder::Recorder;
pub use run::{Conservation, Plan, conserve};
pub use stream::{Stored, dead_letters, stored};
pub use summary::Summary;
pub use verdict::{Verdict, judge};
