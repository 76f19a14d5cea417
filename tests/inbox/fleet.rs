//! The inbox of a fleet: several gates, and what may become of their store.
