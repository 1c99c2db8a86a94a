//! What outgoing HTTP has in common: which addresses may be called, limits, pace, and when to leave a target alone.
