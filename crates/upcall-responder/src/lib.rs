//! Turns an event into the JSON that the uploader receives.
