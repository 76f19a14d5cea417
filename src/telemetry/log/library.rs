//! The warnings of the libraries underneath, which they tell to the `log` facade.

use std::sync::Arc;

use super::{Severity, Sink};
use crate::telemetry::event::Event;

/// Passes warnings of the libraries underneath on. Their lower levels print request
/// heads, which hold signatures: they stay silent at every log level. So does rustls, which
/// warns of whatever name a stranger asks for: a handshake that fails is told by ourselves.
pub fn adopt_library_logs(sink: Arc<Sink>) {
    struct Libraries(Arc<Sink>);

    impl ::log::Log for Libraries {
        fn enabled(&self, metadata: &::log::Metadata<'_>) -> bool {
            metadata.level() <= ::log::Level::Warn && !metadata.target().starts_with("rustls")
        }

        fn log(&self, record: &::log::Record<'_>) {
            if self.enabled(record.metadata()) {
                let severity =
                    if record.level() == ::log::Level::Error { Severity::Error } else { Severity::Warn };
                self.0.tell(Event::Library { severity, message: &record.args().to_string() });
            }
        }

        fn flush(&self) {}
    }

    if ::log::set_boxed_logger(Box::new(Libraries(sink))).is_ok() {
        ::log::set_max_level(::log::LevelFilter::Warn);
    }
}
