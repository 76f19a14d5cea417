//! Where a Redis is, as people write it. A password has no place in it: URLs end up in
//! process lists, manifests and logs.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// `redis://[USER@]HOST[:PORT][/DB]`, with `s` for TLS and `+cluster` or `+sentinel` for more
/// than one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    pub servers: Servers,
    pub user: Option<String>,
    pub database: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    One(Server),
    /// Some nodes of a cluster; it tells of the others.
    Cluster(Vec<Server>),
    /// Sentinels, and the name under which they know the master.
    Sentinel {
        sentinels: Vec<Server>,
        master: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
}

const FORMS: &str = "write memory, redis://HOST:PORT, rediss://HOST:PORT (TLS), redis+cluster://HOST:PORT,HOST:PORT \
                     or redis+sentinel://HOST:PORT,HOST:PORT/MASTER";
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl FromStr for Address {
    type Err = String;

    /// What is wrong is said without repeating the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("is no store: {FORMS}"))?;
        let (protocol, many) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match protocol {
            "redis" => false,
            "rediss" => true,
            _ => return Err(format!("is no store of this build: {FORMS}")),
        };
        if rest.contains(['?', '#']) {
            return Err(
                "takes no parameters after '?': each has a key of its own, such as replay.timeout".to_owned()
            );
        }
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err(
                    "holds a password, which would be seen by others: put it into a file and name that in \
                            replay.password_file"
                        .to_owned(),
                );
            }
            Some(("", _)) => return Err("names no user before '@': leave '@' out".to_owned()),
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let default_port = if many == "sentinel" { SENTINEL_PORT } else { PORT };
        let mut servers =
            hosts.split(',').map(|host| server(host, default_port)).collect::<Result<Vec<_>, _>>()?;
        let (servers, database) = match many {
            "" if servers.len() > 1 => {
                return Err("names several servers: write redis+cluster:// or redis+sentinel://".to_owned());
            }
            "" => (Servers::One(servers.remove(0)), path),
            "cluster" => (Servers::Cluster(servers), path),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err("names no master: write redis+sentinel://HOST:PORT/MASTER".to_owned());
                }
                (Servers::Sentinel { sentinels: servers, master: master.to_owned() }, database)
            }
            _ => return Err(format!("is no store of this build: {FORMS}")),
        };
        let database = match database {
            "" => 0,
            number => number
                .parse::<u16>()
                .map(i64::from)
                .map_err(|_| "has a path that is no database: write for example /0".to_owned())?,
        };
        if database != 0 && matches!(servers, Servers::Cluster(_)) {
            return Err("names a database, and a cluster has only 0: leave it out".to_owned());
        }
        Ok(Address { tls, servers, user, database })
    }
}

fn server(text: &str, default_port: u16) -> Result<Server, String> {
    let wrong = || "has a server that is no HOST:PORT".to_owned();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (text, default_port),
    };
    let bare = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<Ipv6Addr>().is_ok()),
        None => Some(host).filter(|h| !h.is_empty() && !h.contains([':', '[', ']', '/', ' '])),
    };
    match bare {
        Some(host) if port != 0 => Ok(Server { host: host.to_owned(), port }),
        Some(_) | None => Err(wrong()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (many, servers, master) = match &self.servers {
            Servers::One(server) => ("", std::slice::from_ref(server), None),
            Servers::Cluster(servers) => ("+cluster", servers.as_slice(), None),
            Servers::Sentinel { sentinels, master } => ("+sentinel", sentinels.as_slice(), Some(master)),
        };
        write!(f, "redis{}{many}://", if self.tls { "s" } else { "" })?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        for (n, server) in servers.iter().enumerate() {
            write!(f, "{}{server}", if n == 0 { "" } else { "," })?;
        }
        if let Some(master) = master {
            write!(f, "/{master}")?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_printed_alike() {
        for text in [
            "redis://cache:6379",
            "rediss://gate@cache.example:6380/3",
            "redis://[::1]:6379",
            "redis+cluster://a:1,b:2,c:3",
            "rediss+cluster://a:1",
            "redis+sentinel://a:26379,b:26379/main",
            "rediss+sentinel://gate@a:26379/main/2",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("redis://cache".parse::<Address>().unwrap().to_string(), "redis://cache:6379");
        assert_eq!(
            "redis+sentinel://a/main".parse::<Address>().unwrap().to_string(),
            "redis+sentinel://a:26379/main"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_remedy_and_no_password_is_repeated() {
        for (text, says) in [
            ("cache:6379", "redis://HOST:PORT"),
            ("memcached://cache", "is no store of this build"),
            ("redis+ring://cache", "is no store of this build"),
            ("redis://:canary@cache", "replay.password_file"),
            ("redis://gate:canary@cache", "replay.password_file"),
            ("redis://@cache", "leave '@' out"),
            ("redis://", "no HOST:PORT"),
            ("redis://cache:0", "no HOST:PORT"),
            ("redis://cache:canary", "no HOST:PORT"),
            ("redis://::1", "no HOST:PORT"),
            ("redis://a,b", "redis+cluster://"),
            ("redis://cache/first", "no database"),
            ("redis://cache/-1", "no database"),
            ("redis://cache?timeout=1s", "replay.timeout"),
            ("redis+cluster://a/1", "leave it out"),
            ("redis+cluster://a,,b", "no HOST:PORT"),
            ("redis+sentinel://a", "names no master"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(says) && !error.contains("canary"), "{text}: {error} should say {says}");
        }
    }
}
