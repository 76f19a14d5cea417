//! What is so at the moment, such as how much is under way. Who knows it is asked at each
//! scrape, and carries nothing of telemetry for it.

use prometheus::{IntGauge, Registry};

use super::register::gauge;

/// As it is now.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a gauge of its own")]
pub struct Levels {
    /// Ready for traffic.
    pub ready: bool,
    /// Shutting down.
    pub draining: bool,
    /// Connections of senders.
    pub connections: usize,
    /// Requests and deliveries under way.
    pub in_flight: usize,
    /// Bytes of bodies that are held.
    pub buffered: usize,
    /// Events that are remembered, and that can be.
    pub replay_entries: usize,
    pub replay_capacity: usize,
    /// The replay store answers.
    pub replay_store_up: bool,
    /// What was configured anew needs a restart.
    pub restart_pending: bool,
}

pub(super) struct LevelGauges {
    ready: IntGauge,
    draining: IntGauge,
    connections: IntGauge,
    in_flight: IntGauge,
    buffered: IntGauge,
    replay_entries: IntGauge,
    replay_capacity: IntGauge,
    replay_store_up: IntGauge,
    restart_pending: IntGauge,
}

impl LevelGauges {
    pub fn new(r: &Registry) -> Self {
        LevelGauges {
            ready: gauge(r, "hookgate_ready", "1 if ready for traffic."),
            draining: gauge(r, "hookgate_draining", "1 if shutting down."),
            connections: gauge(r, "hookgate_connections", "Open connections of senders."),
            in_flight: gauge(r, "hookgate_requests_in_flight", "Requests and deliveries under way."),
            buffered: gauge(r, "hookgate_buffered_body_bytes", "Bytes of bodies that are held."),
            replay_entries: gauge(r, "hookgate_replay_entries", "Events that are remembered."),
            replay_capacity: gauge(r, "hookgate_replay_capacity", "Events that can be remembered."),
            replay_store_up: gauge(r, "hookgate_replay_store_up", "1 if the replay store answers."),
            restart_pending: gauge(
                r,
                "hookgate_restart_pending",
                "1 if the configuration changed in what only a restart takes up.",
            ),
        }
    }

    pub fn set(&self, levels: &Levels) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.ready.set(levels.ready.into());
        self.draining.set(levels.draining.into());
        self.connections.set(count(levels.connections));
        self.in_flight.set(count(levels.in_flight));
        self.buffered.set(count(levels.buffered));
        self.replay_entries.set(count(levels.replay_entries));
        self.replay_capacity.set(count(levels.replay_capacity));
        self.replay_store_up.set(levels.replay_store_up.into());
        self.restart_pending.set(levels.restart_pending.into());
    }
}
