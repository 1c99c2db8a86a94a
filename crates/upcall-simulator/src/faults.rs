//! What the simulator does wrong on purpose.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The faults that uploads with a callback meet. By default there are none.
///
/// As JSON, durations are milliseconds and every field may be left out:
/// `{"delay_ms":200,"corrupt":"signature","times":1}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Milliseconds to wait before the callback is sent. They do not count towards the callback's time.
    pub delay_ms: u64,
    /// Milliseconds to wait between the head and the body of the callback. They count towards its time.
    pub stall_ms: u64,
    /// Whether the callback is sent twice, at the same time. The uploader gets the answer to the first.
    pub duplicate: bool,
    /// Sends no callback: the uploader gets this JSON as if the callback had brought it.
    pub lose: Option<serde_json::Value>,
    /// Spoils one byte of the callback.
    pub corrupt: Option<Corruption>,
    /// Milliseconds to wait between the callback and the answer to the uploader.
    pub late_ms: u64,
    /// How many uploads with a callback meet these faults; then there are none. `None` is for ever.
    pub times: Option<NonZeroU32>,
}

/// Which part of a callback is spoilt. The signature is made first, so it no longer fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// One byte of the body. `Content-MD5` fits the spoilt body, as after tampering.
    Body,
    /// One byte of the signature.
    Signature,
}

impl Faults {
    /// How long to wait before the callback.
    pub(crate) fn delay(&self) -> Duration {
        bounded(self.delay_ms)
    }

    /// How long to wait between head and body.
    pub(crate) fn stall(&self) -> Duration {
        bounded(self.stall_ms)
    }

    /// How long to wait before the answer.
    pub(crate) fn late(&self) -> Duration {
        bounded(self.late_ms)
    }
}

/// The longest wait that a fault can ask for: ten minutes, longer than any client's patience.
const WAIT_MS_MAX: u64 = 600_000;

fn bounded(wait_ms: u64) -> Duration {
    Duration::from_millis(wait_ms.min(WAIT_MS_MAX))
}

/// The faults in force.
#[derive(Debug)]
pub(crate) struct CurrentFaults(Mutex<Faults>);

impl CurrentFaults {
    pub(crate) fn new(faults: Faults) -> Self {
        Self(Mutex::new(faults))
    }

    /// Reads them.
    pub(crate) fn read(&self) -> Faults {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces them.
    pub(crate) fn replace(&self, faults: Faults) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Takes them for one upload, which counts against `times`.
    pub(crate) fn meet(&self) -> Faults {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let met = current.clone();
        if let Some(times) = met.times {
            match NonZeroU32::new(times.get() - 1) {
                Some(left) => current.times = Some(left),
                None => *current = Faults::default(),
            }
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_with_a_count_run_out() {
        let faults = Faults { duplicate: true, times: NonZeroU32::new(2), ..Faults::default() };
        let current = CurrentFaults::new(faults);
        assert!(current.meet().duplicate);
        assert!(current.meet().duplicate);
        assert_eq!(current.meet(), Faults::default());
    }

    #[test]
    fn faults_without_a_count_stay() {
        let faults = Faults { corrupt: Some(Corruption::Body), ..Faults::default() };
        let current = CurrentFaults::new(faults.clone());
        for _ in 0..3 {
            assert_eq!(current.meet(), faults);
        }
    }

    #[test]
    fn a_misspelt_fault_is_refused() {
        assert!(serde_json::from_str::<Faults>(r#"{"delay":1}"#).is_err());
        let faults: Faults = serde_json::from_str(r#"{"corrupt":"signature","times":1}"#).unwrap();
        assert_eq!(faults.corrupt, Some(Corruption::Signature));
    }
}
