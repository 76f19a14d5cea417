//! What "durable" means in the store that is there.
