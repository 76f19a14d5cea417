//! Values with units, as people write them. One `FromStr` each, used by the command
//! line and by the configuration file alike, so that nonsense is refused in one place.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

/// A duration with its unit: `300ms`, `10s`, `5m`, `24h`, `7d`, or several as in `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("\"{text}\" has no unit: write {text}s, {text}m or {text}h"));
        }
        let span = humantime::parse_duration(text)
            .map_err(|_| format!("\"{text}\" is no duration: write for example 300ms, 10s, 5m or 24h"))?;
        if span.subsec_nanos() % 1_000_000 != 0 {
            return Err(format!("\"{text}\" is finer than a millisecond"));
        }
        if span > LONGEST {
            return Err(format!("\"{text}\" is longer than ten years"));
        }
        Ok(Span(span))
    }
}

/// A longer span is a slip of the pen, and sums of such would overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
        let (size, unit) =
            units.iter().find(|(size, _)| ms != 0 && u128::is_multiple_of(ms, *size)).unwrap_or(&(1000, "s"));
        write!(f, "{}{unit}", ms / size)
    }
}

/// A number of bytes with its unit: `512B`, `64KiB`, `1MiB`, `2GiB`, or decimal `1MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

const SIZES: [(&str, usize); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        if unit.is_empty() && !number.is_empty() {
            return Err(format!("\"{text}\" has no unit: write {text}B, {text}KiB or {text}MiB"));
        }
        let size = SIZES.iter().find(|(name, _)| *name == unit.trim_start());
        let bytes = size.and_then(|(_, size)| number.parse::<usize>().ok()?.checked_mul(*size));
        match bytes {
            Some(0) => Err(format!("\"{text}\" would let nothing through")),
            Some(bytes) => Ok(ByteSize(bytes)),
            None => Err(format!("\"{text}\" is no size: write for example 512B, 64KiB or 1MiB")),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZES.iter().filter(|(name, _)| name.contains('i') || *name == "B");
        let fits = binary.into_iter().find(|(_, size)| self.0.is_multiple_of(*size) && self.0 >= *size);
        let (name, size) = fits.unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / size)
    }
}

/// So many requests in so much time, `100/1m`, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Off,
    Limit { count: u32, period: Duration },
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_off(text) {
            return Ok(Rate::Off);
        }
        let wrong = || format!("\"{text}\" is no rate: write for example 100/1m, 10/s or off");
        let (count, period) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let period = match period.trim() {
            unit if unit.starts_with(|c: char| c.is_ascii_digit()) => unit.parse::<Span>()?,
            unit => format!("1{unit}").parse::<Span>().map_err(|_| wrong())?,
        };
        if count == 0 || period.0.is_zero() {
            return Err(format!("\"{text}\" would let nothing through: write off for no limit"));
        }
        Ok(Rate::Limit { count, period: period.0 })
    }
}

/// Off, as people write it.
pub fn is_off(text: &str) -> bool {
    ["off", "no", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Off => f.write_str("off"),
            Rate::Limit { count, period } => write!(f, "{count}/{}", Span(*period)),
        }
    }
}

/// A network, `192.0.2.0/24` or `2001:db8::/32`; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(Cidr(IpNet::from(address.to_canonical())));
        }
        let net: IpNet = text.parse().map_err(|_| {
            format!("\"{text}\" is no network: write for example 192.0.2.0/24 or 2001:db8::/32")
        })?;
        if net.trunc() != net {
            return Err(format!("\"{text}\" has host bits set: write {}", net.trunc()));
        }
        match net {
            // A mapped network is an IPv4 network in disguise; addresses are compared unmapped.
            IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() && v6.prefix_len() >= 96 => {
                let v4 = v6.addr().to_ipv4_mapped().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
                let net = ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96).map_err(|e| e.to_string())?;
                Ok(Cidr(IpNet::V4(net)))
            }
            net => Ok(Cidr(net)),
        }
    }
}

impl Cidr {
    /// Whether it is too wide to hold the addresses of one operator only. The widest private
    /// networks are 10.0.0.0/8 and `fc00::/7`; nobody is given a wider public one than a /8 or a /16.
    pub fn holds_strangers(&self) -> bool {
        match self.0 {
            IpNet::V4(v4) => v4.prefix_len() < 8,
            IpNet::V6(v6) => v6.prefix_len() < if v6.addr().is_unique_local() { 7 } else { 16 },
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who may send: a network, or `published` for the addresses that the provider publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Senders {
    Published,
    Network(Cidr),
}

impl FromStr for Senders {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "published" {
            return Ok(Senders::Published);
        }
        text.parse().map(Senders::Network)
    }
}

impl fmt::Display for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Senders::Published => f.write_str("published"),
            Senders::Network(network) => network.fmt(f),
        }
    }
}

/// A moment, `2027-01-31T12:00:00Z`, or a date, which means its last moment in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Milliseconds since the epoch.
    pub ms: i64,
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(date) = text.parse::<chrono::NaiveDate>() {
            let next = date.succ_opt().and_then(|next| next.and_hms_opt(0, 0, 0));
            let end = next.ok_or_else(|| format!("\"{text}\" is out of range"))?;
            return Ok(Moment { ms: end.and_utc().timestamp_millis() - 1 });
        }
        match chrono::DateTime::parse_from_rfc3339(text) {
            Ok(time) => Ok(Moment { ms: time.timestamp_millis() }),
            Err(_) => {
                Err(format!("\"{text}\" is no date: write for example 2027-01-31 or 2027-01-31T12:00:00Z"))
            }
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::clock::to_rfc3339(self.ms))
    }
}

/// Where the application listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamUrl {
    /// `http://host:port`
    Tcp { host: String, port: u16 },
    /// `unix:/path`
    Unix(std::path::PathBuf),
}

impl FromStr for UpstreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') {
                Ok(UpstreamUrl::Unix(path.into()))
            } else {
                Err(format!("\"{text}\": a Unix socket is an absolute path: write unix:/run/app.sock"))
            };
        }
        let wrong =
            || format!("\"{text}\" is no upstream: write http://127.0.0.1:8080 or unix:/run/app.sock");
        let rest = text.strip_prefix("http://").ok_or_else(|| {
            if text.starts_with("https://") {
                "the upstream is the application in the same pod: write http://, not https://".to_owned()
            } else {
                wrong()
            }
        })?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(format!("\"{text}\" is more than an address: paths are passed on as they come"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, 80),
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').filter(|v6| v6.parse::<Ipv6Addr>().is_ok()),
            None => Some(host).filter(|host| !host.is_empty() && host.bytes().all(is_of_host)),
        };
        match host {
            Some(host) if port != 0 => Ok(UpstreamUrl::Tcp { host: host.to_owned(), port }),
            Some(_) | None => Err(wrong()),
        }
    }
}

/// What a name or an IPv4 address is made of.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

impl UpstreamUrl {
    /// Where it is, for who looks for it.
    pub fn address(&self) -> String {
        match self {
            UpstreamUrl::Tcp { .. } => self.authority(),
            UpstreamUrl::Unix(path) => path.display().to_string(),
        }
    }

    /// What a request names as its `Host`. A Unix socket has no name of its own.
    pub fn authority(&self) -> String {
        match self {
            UpstreamUrl::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            UpstreamUrl::Tcp { host, port } => format!("{host}:{port}"),
            UpstreamUrl::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamUrl::Tcp { .. } => write!(f, "http://{}", self.authority()),
            UpstreamUrl::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A name by which this gate is asked, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if name.len() <= 253 && name.split('.').all(label) {
            Ok(HostName(name.to_owned()))
        } else {
            Err(format!("\"{text}\" is no host name: write for example hookgate.example, without a port"))
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where spans go: `http://host`, with or without port and path; `v1/traces` is added as the
/// protocol has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    /// An IPv6 address in brackets.
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl FromStr for OtlpEndpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const PORT: u16 = 4318;
        const PATH: &str = "/v1/traces";
        let wrong = || format!("\"{text}\" is no collector: write http://127.0.0.1:{PORT}");
        let rest = text.strip_prefix("http://").ok_or_else(|| match text.strip_prefix("https://") {
            Some(_) => {
                "the collector is on this machine or node: write http://, and let it speak TLS".to_owned()
            }
            None => wrong(),
        })?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#');
        if !rest.chars().all(plain) {
            return Err(format!("\"{text}\": leave out names, passwords, queries and spaces"));
        }
        let authority = if authority.contains(':') && !authority.ends_with(']') {
            authority.to_owned()
        } else {
            format!("{authority}:{PORT}")
        };
        let UpstreamUrl::Tcp { host, port } =
            format!("http://{authority}").parse().map_err(|_: String| wrong())?
        else {
            return Err(wrong());
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let path = path.trim_end_matches('/').trim_end_matches(PATH);
        Ok(OtlpEndpoint { host, port, path: format!("{path}{PATH}") })
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Reads a value from a scalar by its `FromStr`, and describes it as a string in the schema.
macro_rules! scalar {
    ($type:ident, $pattern:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

scalar!(OtlpEndpoint, r"^http://");
scalar!(Span, r"^([0-9]+(ms|s|m|h|d) ?)+$");
scalar!(ByteSize, r"^[0-9]+ ?(B|KB|MB|GB|KiB|MiB|GiB)$");
scalar!(HostName, r"^[A-Za-z0-9._-]+$");
scalar!(Rate, r"^(off|no|false|[0-9]+/[0-9]*(ms|s|m|h|d))$");
scalar!(Cidr, r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$");
scalar!(Senders, r"^(published|[0-9a-fA-F.:]+(/[0-9]{1,3})?)$");
scalar!(Moment, r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt].+)?$");
scalar!(UpstreamUrl, r"^(http://.+|unix:/.+)$");

/// Each value once, where it stood first: what several schemes demand is told of each.
pub fn distinct<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

/// Shows an enum in the word that it is written with.
macro_rules! display_as_value {
    ($($type:ty),*) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let value = clap::ValueEnum::to_possible_value(self);
                f.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
            }
        }
    )*};
}
pub(super) use display_as_value;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read_and_printed_alike() {
        for text in ["300ms", "10s", "5m", "24h", "90m"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("7d".parse::<Span>().unwrap().to_string(), "168h");
        for text in ["512B", "64KiB", "1MiB", "2GiB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("1MB".parse::<ByteSize>().unwrap().0, 1_000_000);
        for (text, shown) in
            [("100/1m", "100/1m"), ("10/s", "10/1s"), ("off", "off"), ("No", "off"), ("5/10m", "5/10m")]
        {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), shown);
        }
        for (text, shown) in [
            ("2027-01-31", "2027-01-31T23:59:59.999Z"),
            ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00Z"),
            ("2027-01-31T12:00:00+02:00", "2027-01-31T10:00:00Z"),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().to_string(), shown);
        }
        for text in ["http://127.0.0.1:8080", "http://[::1]:8080", "http://app:80", "unix:/run/a.sock"] {
            assert_eq!(text.parse::<UpstreamUrl>().unwrap().to_string(), text);
        }
        assert_eq!("::ffff:192.0.2.0/120".parse::<Cidr>().unwrap().to_string(), "192.0.2.0/24");
        assert_eq!("192.0.2.1".parse::<Cidr>().unwrap().to_string(), "192.0.2.1/32");
    }

    #[test]
    fn a_value_that_comes_again_is_told_once_and_in_its_place() {
        assert_eq!(distinct(["5m", "2h", "5m", "1m", "2h"]), ["5m", "2h", "1m"]);
        assert!(distinct(Vec::<&str>::new()).is_empty());
    }

    #[test]
    fn a_network_of_strangers_is_known_by_its_width() {
        for (text, strangers) in [
            ("0.0.0.0/0", true),
            ("10.0.0.0/7", true),
            ("10.0.0.0/8", false),
            ("104.16.0.0/13", false),
            ("::/0", true),
            ("::ffff:0:0/96", true),
            ("2000::/3", true),
            ("2400:cb00::/32", false),
            ("fc00::/7", false),
            ("fd00::/8", false),
            ("fc00::/6", true),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().holds_strangers(), strangers, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_remedy() {
        let cases: &[(Result<(), String>, &str)] = &[
            ("300".parse::<Span>().map(drop), "write 300s"),
            ("".parse::<Span>().map(drop), "is no duration"),
            ("-5m".parse::<Span>().map(drop), "is no duration"),
            ("1ms 5us".parse::<Span>().map(drop), "finer than a millisecond"),
            ("18446744073709551615s".parse::<Span>().map(drop), "longer than ten years"),
            ("1".parse::<ByteSize>().map(drop), "has no unit"),
            ("0B".parse::<ByteSize>().map(drop), "would let nothing through"),
            ("99999999999999999999GiB".parse::<ByteSize>().map(drop), "is no size"),
            ("0/1m".parse::<Rate>().map(drop), "write off"),
            ("100".parse::<Rate>().map(drop), "is no rate"),
            ("10.0.0.1/8".parse::<Cidr>().map(drop), "write 10.0.0.0/8"),
            ("10.0.0.0/33".parse::<Cidr>().map(drop), "is no network"),
            ("010.0.0.1".parse::<Cidr>().map(drop), "is no network"),
            ("10.1".parse::<Cidr>().map(drop), "is no network"),
            ("31.1.2027".parse::<Moment>().map(drop), "is no date"),
            ("2027-02-30".parse::<Moment>().map(drop), "is no date"),
            ("2027-01-31T12:00:00".parse::<Moment>().map(drop), "is no date"),
            ("2027".parse::<Moment>().map(drop), "is no date"),
            ("https://app".parse::<UpstreamUrl>().map(drop), "not https"),
            ("http://app/path".parse::<UpstreamUrl>().map(drop), "more than an address"),
            ("127.0.0.1:8080".parse::<UpstreamUrl>().map(drop), "is no upstream"),
            ("http://::1".parse::<UpstreamUrl>().map(drop), "is no upstream"),
            ("http://[::1:80".parse::<UpstreamUrl>().map(drop), "is no upstream"),
            ("http://[app]:80".parse::<UpstreamUrl>().map(drop), "is no upstream"),
            ("http://app:0".parse::<UpstreamUrl>().map(drop), "is no upstream"),
            ("http://app\r\nx:80".parse::<UpstreamUrl>().map(drop), "is no upstream"),
            ("http://äpp:80".parse::<UpstreamUrl>().map(drop), "is no upstream"),
            ("unix:app.sock".parse::<UpstreamUrl>().map(drop), "absolute path"),
        ];
        for (result, says) in cases {
            let error = result.as_ref().unwrap_err();
            assert!(error.contains(says), "{error} should say {says}");
        }
    }
}
