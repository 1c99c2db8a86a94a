//! What `/ready` tells about consumers.

use upcall_consumer::{Retrying, State, Stats};
use upcall_gateway::{Health, ReadyCheck};

use crate::fleet::Members;
use crate::words::plural;

/// What `/ready` tells about consumers, whichever there are when it is asked.
///
/// Where callbacks are taken, too, it is a remark only: a gateway whose consumer is in trouble keeps events for it, and
/// is not to be taken out of a load balancer. A process that does nothing but consume is not ready while it gets no
/// events off its bus. A target that is away is a remark in either case: no restart would bring it back.
pub(crate) fn of_consumers(members: Members, only_consumes: bool) -> ReadyCheck {
    ReadyCheck::several(move || {
        let health = |(name, stats): (String, Stats)| {
            let (state, fault) = stats.condition();
            (format!("consumer {name}"), judge(state, fault, stats.retrying(), only_consumes))
        };
        members.stats().into_iter().map(health).collect()
    })
}

fn judge(state: State, fault: Option<String>, retrying: Option<Retrying>, only_consumes: bool) -> Health {
    let because = |what: &str| match &fault {
        Some(fault) => format!("{what}: {fault}"),
        None => what.to_owned(),
    };
    let of_bus = if only_consumes { Health::Unready } else { Health::Remark };
    match state {
        State::Ready => retrying.map_or(Health::Fine, |retrying| Health::Remark(in_words(&retrying))),
        State::TargetDown => Health::Remark(because("its target is out of order, and events wait for it")),
        State::Starting => of_bus(because("it has not begun to read events yet")),
        State::BusDown => of_bus(because("the bus is out of order for it")),
        State::Draining => of_bus(because("it is shutting down")),
        State::Stopped => of_bus(because("it has stopped, and events wait for the next start")),
    }
}

fn in_words(Retrying { events, reason }: &Retrying) -> String {
    let (have, are) = if *events == 1 { ("has", "is") } else { ("have", "are") };
    format!("{} {have} failed and {are} tried again; the last failure: {reason}", plural(*events, "event"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_stays_ready_whatever_its_consumers_do() {
        for state in [State::Starting, State::TargetDown, State::BusDown, State::Draining, State::Stopped] {
            let health = judge(state, Some("for this reason".to_owned()), None, false);
            assert!(matches!(&health, Health::Remark(why) if why.ends_with(": for this reason")), "{health:?}");
        }
        assert_eq!(judge(State::Ready, None, None, false), Health::Fine);
    }

    #[test]
    fn events_that_are_tried_again_are_a_remark() {
        let retrying = |events| Some(Retrying { events, reason: "no such column".to_owned() });
        for (events, words) in [(1, "1 event has failed and is tried again"), (2, "2 events have failed and are")] {
            let health = judge(State::Ready, None, retrying(events), true);
            assert!(
                matches!(&health, Health::Remark(why) if why.starts_with(words) && why.ends_with(": no such column")),
                "{health:?}"
            );
        }
    }

    #[test]
    fn whoever_only_consumes_is_ready_while_it_gets_events() {
        for state in [State::Starting, State::BusDown, State::Stopped] {
            assert!(matches!(judge(state, None, None, true), Health::Unready(_)), "{state:?}");
        }
        assert_eq!(judge(State::Ready, None, None, true), Health::Fine);
        assert!(matches!(judge(State::TargetDown, None, None, true), Health::Remark(_)));
    }
}
