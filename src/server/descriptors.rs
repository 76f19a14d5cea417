//! Open files: how many this process may have, and how many of them connections may take.

use std::os::fd::RawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For probes and scrapes, for the store's connections, for files that are read again, and for
/// what the process has anyway.
const RESERVE: u64 = super::OPS_CONNECTIONS as u64 + 96;

const LAST: RawFd = 32;

/// Raises the soft limit to the hard one: the usual soft limit of 1024 is for programs that
/// use `select`. How many there may be now; `None` if nothing limits them.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    // Where it is not allowed, the soft limit stays, and is what counts.
    if limit.current != limit.maximum
        && setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok()
    {
        return limit.maximum;
    }
    limit.current
}

/// Descriptors are given out from the lowest on, so the number of a new one tells how many are
/// left. A sender whose connection gets this one or a higher one is turned away: probes need them.
pub fn first_of_the_last(may_have: Option<u64>) -> Option<RawFd> {
    let may_have = RawFd::try_from(may_have?).ok()?;
    Some(may_have - LAST.min(may_have / 2))
}

/// How many connections there may be: each may need a second one, to the application.
pub fn connections(asked: usize, may_have: Option<u64>) -> usize {
    let Some(may_have) = may_have else { return asked };
    let room = may_have.saturating_sub(RESERVE) / 2;
    asked.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_leave_is_enough_for_the_rest() {
        for (asked, may_have, get) in [
            (4096, None, 4096),
            (4096, Some(1 << 20), 4096),
            (4096, Some(8352), 4096),
            (4096, Some(8351), 4095),
            (4096, Some(1024), 432),
            (100, Some(1024), 100),
            (4096, Some(10), 1),
        ] {
            assert_eq!(connections(asked, may_have), get, "{asked} of {may_have:?}");
        }
    }
}
