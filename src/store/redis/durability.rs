//! What a store does with what was written: whether it is on a disk before anybody is told, and what a crash
//! or a failover can cost. The server's settings say so; a server that hides them says less.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};

use super::link::{Failure, Link};
use super::{Redis, Token};

/// What the server tells of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    pub disk: Disk,
    /// Another server has what it has, some moments later, and may take over.
    pub has_replicas: bool,
    /// It forgets what it holds when its memory is full, also what never expires.
    pub evicts: bool,
}

/// When what was written is on the server's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    /// Before the sender is told: it is waited for (`WAITAOF`).
    Waited,
    /// Before the server answers (`appendfsync always`).
    Always,
    /// A second later (`appendfsync everysec`), and the server cannot be waited for.
    Second,
    /// When its system sees fit (`appendfsync no`).
    Sometime,
    /// With the next snapshot (`appendonly no`).
    Snapshot,
    /// Never (`appendonly no`, and no `save`).
    Never,
    /// It does not tell.
    #[default]
    Unknown,
}

/// Whether what was written so far is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synced {
    Yes,
    /// Not yet, and the time for it is over.
    No,
    /// There is no waiting for it here.
    NotOffered,
}

/// What a server is asked that says for how long something was waited.
const MARK_MS: u64 = 60_000;

impl Redis {
    /// Asks the server, or one node of the cluster.
    pub(crate) async fn durability(&self) -> Result<Durability, Failure> {
        let link = self.link();
        let info = async |of: &str| text(link, redis::cmd("INFO").arg(of).clone()).await;
        let (replication, server) = (info("replication").await?, info("server").await?);
        // What hides its settings shows some of them here.
        let (persistence, memory) = (info("persistence").await?, info("memory").await?);
        let has_replicas = number(&replication, "connected_slaves:").is_some_and(|count| count > 0);
        let setting = async |name: &str| {
            let command = redis::cmd("CONFIG").arg("GET").arg(name).clone();
            let answer = link.command(command, None).await.ok()?;
            Vec::<String>::from_redis_value(answer).ok()?.into_iter().nth(1)
        };
        let policy = setting("maxmemory-policy").await;
        let policy =
            policy.or_else(|| line(&memory, "maxmemory_policy:").map(str::to_owned)).unwrap_or_default();
        let shown =
            number(&persistence, "aof_enabled:").map(|on| if on == 0 { "no" } else { "yes" }.to_owned());
        let (aof, sync) = (setting("appendonly").await.or(shown), setting("appendfsync").await);
        let snapshots = setting("save").await.is_none_or(|times| !times.is_empty());
        let can_wait = version(&server).is_some_and(|version| version >= (7, 2));
        let disk = match (aof.as_deref(), sync.as_deref()) {
            (Some("no"), _) if snapshots => Disk::Snapshot,
            (Some("no"), _) => Disk::Never,
            (Some("yes"), Some("no")) => Disk::Sometime,
            (Some("yes"), Some("always")) => Disk::Always,
            (Some("yes"), Some(_)) if can_wait => Disk::Waited,
            (Some("yes"), Some(_)) => Disk::Second,
            // Whether it can be waited for shows when it is.
            _ if can_wait => Disk::Waited,
            _ => Disk::Unknown,
        };
        Ok(Durability { disk, has_replicas, evicts: policy.starts_with("allkeys-") })
    }
}

/// Waits until the disk has what any connection wrote so far to the server of that key. The connection waits
/// as well: it is of no use to others meanwhile.
pub(crate) async fn sync(link: &Arc<Link>, key: &str, within: Duration) -> Result<Synced, Failure> {
    let word = Token::random().map_err(|_| Failure::Unasked)?;
    // A server waits for what the connection that asks has written last.
    let mut mark = redis::cmd("SET");
    mark.arg(key).arg(word.as_str()).arg("PX").arg(MARK_MS);
    link.command(mark, Some(key)).await?;
    let mut wait = redis::cmd("WAITAOF");
    wait.arg(1).arg(0).arg(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    match link.try_command(wait, Some(key), within).await? {
        Ok(Value::Array(done)) => Ok(match done.first() {
            Some(Value::Int(1..)) => Synced::Yes,
            _ => Synced::No,
        }),
        // It does not know the command, or keeps no such file.
        Ok(_) | Err(_) => Ok(Synced::NotOffered),
    }
}

/// Nothing if the server does not tell.
async fn text(link: &Arc<Link>, command: Cmd) -> Result<String, Failure> {
    let answer = link.try_command(command, None, Duration::ZERO).await?;
    Ok(answer.and_then(|answer| Ok(String::from_redis_value(answer)?)).unwrap_or_default())
}

fn line<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    Some(info.lines().find_map(|line| line.strip_prefix(name))?.trim())
}

fn number(info: &str, name: &str) -> Option<u64> {
    line(info, name)?.parse().ok()
}

/// Valkey tells in its own line, and in Redis' one the version that it was forked from.
fn version(info: &str) -> Option<(u64, u64)> {
    let mut parts = line(info, "valkey_version:").or_else(|| line(info, "redis_version:"))?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl Durability {
    /// Whether a crash of the server loses nothing.
    pub fn is_safe(&self) -> bool {
        matches!(self.disk, Disk::Waited | Disk::Always) && !self.evicts
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.disk {
            Disk::Waited => "on the server's disk before the sender is told",
            Disk::Always => "on the server's disk before the sender is told (appendfsync always)",
            Disk::Second => {
                "in the server's memory, and a second later on its disk (appendfsync everysec; from Redis 7.2 on the \
                 disk is waited for): a crash of the server can lose the last second"
            }
            Disk::Sometime => {
                "in the server's memory, and on its disk when its system sees fit (appendfsync no): set appendfsync to \
                 everysec or always"
            }
            Disk::Snapshot => {
                "in the server's memory alone until its next snapshot (appendonly no): set appendonly to yes"
            }
            Disk::Never => {
                "in the server's memory alone, and a restart of the server loses it (appendonly no, and no save): set \
                 appendonly to yes"
            }
            Disk::Unknown => "as durable as the server makes it, which it does not tell",
        })?;
        if self.has_replicas {
            f.write_str("; a failover can lose what no replica has yet")?;
        }
        if self.evicts {
            f.write_str(
                "; and when its memory is full the server forgets events (maxmemory-policy): set it to noeviction",
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_server_that_is_there() {
        assert_eq!(version("# Server\r\nredis_version:7.0.15\r\n"), Some((7, 0)));
        assert_eq!(
            version("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0\r\n"),
            Some((8, 1))
        );
        assert_eq!(version("something:else"), None);
        assert_eq!(number("role:master\r\nconnected_slaves:2\r\n", "connected_slaves:"), Some(2));
    }

    #[test]
    fn what_can_be_lost_is_told_with_the_remedy() {
        let all = [
            Disk::Waited,
            Disk::Always,
            Disk::Second,
            Disk::Sometime,
            Disk::Snapshot,
            Disk::Never,
            Disk::Unknown,
        ];
        for disk in all {
            let told = Durability { disk, has_replicas: true, evicts: true }.to_string();
            assert!(told.contains("failover") && told.contains("noeviction"), "{told}");
        }
        for disk in [Disk::Snapshot, Disk::Never] {
            let told = Durability { disk, ..Durability::default() };
            assert!(told.to_string().contains("appendonly to yes") && !told.is_safe());
        }
    }
}
