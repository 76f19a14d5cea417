//! Looks after what other gates do: each second, how much there is of each route, and whether something is due
//! earlier than was known. So a gate delivers what another stored, also if that one is gone.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::{Shared, steps};

const LOOK: Duration = Duration::from_secs(1);

/// Until the last handle of the inbox has gone.
pub(super) fn start(shared: &Arc<Shared>) {
    let watched = Arc::downgrade(shared);
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(watch(watched));
    }
}

async fn watch(watched: Weak<Shared>) {
    while let Some(shared) = watched.upgrade() {
        shared.redis.probe().await;
        // Of a cluster another node may be well.
        let routes = shared.hear_of_routes().await.unwrap_or_else(|_| shared.routes().clone());
        join_all(routes.iter().map(|route| shared.ask(&steps::LOOK, route, None, &[]))).await;
        drop(shared);
        sleep(LOOK).await;
    }
}
