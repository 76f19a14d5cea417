//! hookgate: a sidecar that lets only genuine, fresh, first-seen webhooks through to an
//! application.
//!
//! Where to find what:
//!
//! | module | what lives there |
//! |---|---|
//! | [`gate`] | the pure core: [`chain`](gate::chain) is the order of the checks, [`filter`](gate::filter) the checks, [`scheme`](gate::scheme) how providers sign |
//! | [`proxy`] | the life of a delivery on Pingora: read, judge, reserve, exchange, settle, answer |
//! | [`store`] | the replay memory, and the file that keeps it |
//! | [`inbox`] | what is proved and acknowledged, and not yet delivered |
//! | [`keys`] | keys that are not files of a route: they are looked up for each delivery |
//! | [`config`] | from flags, environment and file to checked types |
//! | [`diagnosis`] | why a signature does not hold, for operators |
//! | [`telemetry`] | one record per delivery, one log line, all metrics, and a closed set of [events](telemetry::event) |
//! | [`server`] | assembling, accepting, reload, drain |
//! | [`ops`] | probes, metrics, what there is to see, and the control socket |
//! | [`inject`] | the gate into Kubernetes manifests |
//! | [`cli`] | one file per command |
//! | [`files`] | the only reader of the files that a configuration names |
//! | [`budget`] | what all requests together may hold |
//! | [`clock`] | the only reader of time |
//! | [`lock`] | the one way to take a mutex |
//!
//! One delivery reads top to bottom in `Sidecar::handle`, in [`proxy`]. The order of the checks is one screen,
//! [`gate::chain`]; what a route demands is [`gate::route`], and each check is one file of [`gate::filter`]. A
//! provider is one file of data in `conf/providers`. What makes two deliveries the same event is decided in
//! [`gate::identity`]; how an event's state changes in memory, in [`gate::filter::replay`].

pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod diagnosis;
pub mod files;
pub mod gate;
pub mod inbox;
pub mod inject;
pub mod keys;
pub mod lock;
pub mod ops;
pub mod proxy;
pub mod server;
pub mod store;
pub mod telemetry;
