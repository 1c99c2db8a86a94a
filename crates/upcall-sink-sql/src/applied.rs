//! What stands for an event in the table of applied events.

use std::collections::HashSet;

use upcall_event::Event;

/// An event, as it stands in the table of applied events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key([u8; Key::LENGTH]);

/// How a table's keys are made. A table keeps to one way for ever: by another, it would know nothing of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    /// An event's key is its id. So it is in tables of the first layout.
    Ids,
    /// A key begins with the second in which OSS took the request. Ids alone are hashes: each new one would go to another
    /// page of the table, and every one of these pages to the log.
    Times,
}

/// Which of some keys were not there.
#[derive(Debug)]
pub(crate) enum Fresh {
    /// None of them was.
    All,
    /// These were not.
    Only(HashSet<Key>),
}

impl Key {
    const LENGTH: usize = 16;
    const SECOND_LENGTH: usize = 4;

    /// As the database has it; `None` for what is no key.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Keys {
    /// An event's key. Of an id that begins with a second there is room for 96 bits, of which no two are alike.
    pub(crate) fn key(self, event: &Event) -> Key {
        let mut key = *event.id.as_bytes();
        if self == Self::Times {
            let (second, rest) = key.split_at_mut(Key::SECOND_LENGTH);
            second.copy_from_slice(&event.request_second().unwrap_or(0).to_be_bytes());
            rest.copy_from_slice(&event.id.as_bytes()[..Key::LENGTH - Key::SECOND_LENGTH]);
        }
        Key(key)
    }
}

#[cfg(test)]
mod tests {
    use upcall_consumer::conformance::upload;
    use upcall_event::EventId;

    use super::*;

    fn key(keys: Keys, request_id: &str) -> Key {
        let mut event = upload(1).event;
        event.id = EventId::from_request(&event.data.bucket, &event.data.object, request_id);
        event.data.request_id = Some(request_id.to_owned());
        keys.key(&event)
    }

    #[test]
    fn keys_are_in_the_order_of_the_requests_where_these_tell_their_time() {
        let requests = ["5CF3E7820000000000000000", "5CF3E783FFFFFFFFFFFFFFFF", "5CF3E78400000000000000AA"];
        let made = requests.map(|request| key(Keys::Times, request));
        assert!(made.is_sorted(), "{made:?}");
        assert_eq!(made[0].as_bytes()[..4], [0x5c, 0xf3, 0xe7, 0x82]);
        assert_eq!(key(Keys::Times, "none of OSS's").as_bytes()[..4], [0; 4]);
        assert_eq!(made[0], key(Keys::Times, requests[0]), "a key is for ever");
    }

    #[test]
    fn a_table_of_the_first_layout_has_ids() {
        let mut event = upload(1).event;
        assert_eq!(Keys::Ids.key(&event).as_bytes(), event.id.as_bytes());
        // A request id that the id is not made of says nothing.
        event.data.request_id = Some("5CF3E7821AB22D0FDB86704D".to_owned());
        assert_eq!(Keys::Times.key(&event).as_bytes()[..4], [0; 4]);
    }
}
