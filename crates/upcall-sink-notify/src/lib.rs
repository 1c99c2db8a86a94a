//! The sink that tells people: mail and chat.
