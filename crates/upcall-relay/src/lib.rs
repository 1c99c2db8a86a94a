//! Between the journal and NATS JetStream: a [`Relay`] that empties the journal into the stream of uploads, and a
//! [`Spill`] that publishes to NATS, and to the journal while NATS does not take events.
//!
//! # What the relay promises
//! - **Nothing is passed over.** It goes on behind the last event up to which the stream has acknowledged all, after
//!   whatever went wrong, for as long as it takes. An event that the server refuses for good (it is too large, or its
//!   subject is one that the stream does not capture) does not hold the others up: it is set aside in a file of its own,
//!   in `set-aside` in the relay's folder, counted in [`RelayStatus::set_aside`], and offered again every minute, since
//!   limits can be raised and subjects added. When 10,000 events or 1 GiB are set aside the relay stops at the next one,
//!   says so, and the journal keeps what is behind it.
//! - **In order**, as long as nothing goes wrong: events are under way by the thousand, so when one of them has to be
//!   sent again, those behind it may be in the stream before it.
//! - **An acknowledgement is not trusted at once.** A server syncs later than it acknowledges (`sync_interval`, two
//!   minutes by default). So an event stays in the journal until the stream has held it for [`Options::sync_hold`], and
//!   is found to hold it still. A server that comes back with less than it had acknowledged, from an old copy, or with
//!   a stream that was made anew, is noticed after each reconnect and every few seconds, and gets again all that is in
//!   the journal. What the stream's own limits have removed is not missed.
//! - **Nothing is stored twice**, however long an outage takes. The stream recognises ids for its duplicate window only.
//!   So before an event is sent again that may be in the stream for longer than that, the ids in the stream are looked
//!   at, from where or when it can be there at the earliest. For that the relay writes down how far it is, in
//!   `relay.json` in its folder: a durable word before it sends what goes beyond, else once a second. Nothing is sent
//!   again before the server has answered a question, so that no copy waits in a connection that hangs. What remains:
//!   a server that halts between that answer and the events for longer than its window, and goes on then; clocks that
//!   differ by more than a minute, where the file is lost or the events are spills.
//!
//! Where the server takes single publications slowly, since it syncs each of them (`sync_interval: always`), events go in
//! atomic batches, if the stream allows that. The relay measures what is faster. A batch with an event that the stream
//! has already is refused whole, and its events go one by one.
//!
//! What waits in memory is bounded: the events under way, a page of the journal, and some hundred thousand ids during a
//! look. The journal has to hold what comes in during [`Options::sync_hold`].

mod aside;
mod breaker;
mod checkpoint;
mod copy;
mod doubt;
mod look;
mod loss;
mod memory;
mod options;
mod pace;
mod pipeline;
mod private;
mod relay;
mod spill;
mod status;
mod worker;

pub use copy::copy_set_aside;
pub use options::{Options, SpillOptions};
pub use relay::Relay;
pub use spill::Spill;
pub use status::{RelayHandle, RelayStatus};
