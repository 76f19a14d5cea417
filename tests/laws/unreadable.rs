//! What cannot be read is refused.
