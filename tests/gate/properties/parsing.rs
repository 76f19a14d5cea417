//! No text and no bytes make a parser panic, and what is printed reads back the same.

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use bytes::BytesMut;
use hookgate::config::units::{ByteSize, Cidr, Rate, Span, UpstreamUrl};
use hookgate::gate::delivery::{AddressHeader, Client, Headers, Peer, TrustedProxies};
use hookgate::gate::parse::json::{self, Pointer};
use hookgate::gate::route::PathPattern;
use hookgate::gate::scheme::content::Content;
use hookgate::gate::scheme::key::{KeyDecoding, KeyRule};
use hookgate::gate::scheme::source::Source;
use hookgate::gate::scheme::timestamp::TimeUnit;
use hookgate::proxy::framing::{self, RequestHead};
use http::{HeaderMap, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseResult;

use super::kept;

proptest! {
    #![proptest_config(kept())]

    #[test]
    fn no_text_makes_a_parser_panic(text in text()) {
        reads_back::<ByteSize>(&text)?;
        reads_back::<Cidr>(&text)?;
        reads_back::<Content>(&text)?;
        reads_back::<PathPattern>(&text)?;
        reads_back::<Pointer>(&text)?;
        reads_back::<Rate>(&text)?;
        reads_back::<Source>(&text)?;
        reads_back::<Span>(&text)?;
        reads_back::<UpstreamUrl>(&text)?;
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in bytes()) {
        _ = RequestHead::take(&mut BytesMut::from(&bytes[..]));
        _ = framing::chunk_size(&bytes);
        _ = json::pick(&bytes, &[&"/id".parse().unwrap(), &"/data/0/id".parse().unwrap()]);
        for unit in [TimeUnit::S, TimeUnit::Ms, TimeUnit::Rfc3339, TimeUnit::HttpDate] {
            _ = unit.parse(&bytes);
        }
        for decode in [KeyDecoding::Utf8, KeyDecoding::Base64, KeyDecoding::Hex] {
            _ = KeyRule { strip: vec!["whsec_".to_owned()], decode, derive: None }.decode(&bytes);
        }
        _ = sender(&[&bytes]);
    }

    /// So that what is signed and what is judged are the same.
    #[test]
    fn a_number_that_is_a_time_is_written_in_one_way(text in "[+0]?[0-9]{0,16}[ .]?") {
        for unit in [TimeUnit::S, TimeUnit::Ms] {
            if let Some(time) = unit.parse(text.as_bytes()) {
                prop_assert_eq!(unit.format(time), &*text);
            }
        }
    }

    #[test]
    fn nothing_that_a_sender_forwards_names_another_sender(forged in vec(bytes(), 0..3)) {
        let appended = b"203.0.113.7".to_vec();
        let lines: Vec<&[u8]> = forged.iter().chain([&appended]).map(Vec::as_slice).collect();
        prop_assert_eq!(sender(&lines), Client::Known(IpAddr::from([203, 0, 113, 7])));
    }
}

/// For each type, texts that it mostly takes.
macro_rules! read_back {
    ($($law:ident: $type:ty = $grammar:expr;)*) => {
        proptest! {
            #![proptest_config(kept())]
            $(#[test]
            fn $law(text in $grammar) {
                reads_back::<$type>(&text)?;
            })*
        }
    };
}

read_back! {
    byte_sizes_read_back: ByteSize = "[0-9]{1,12} ?(B|KB|MB|GB|KiB|MiB|GiB)";
    contents_read_back: Content =
        r"([a-z.}]{0,3}\{(body|header:[A-Z-]{1,5}|kv:[^}]{1,3})\}){1,3}[a-z.}]{0,3}";
    networks_v4_read_back: Cidr = r"(10|1?27)\.[0-9]{1,3}\.0\.0(/(16|24|32))?";
    networks_v6_read_back: Cidr = r"(::|::ffff:|2001:db8::)(0|1\.2\.0\.0)?(/(96|112|128))?";
    paths_read_back: PathPattern = r"/[!-~]{0,8}\*?";
    pointers_read_back: Pointer = "(/[~01ab/]{0,4}){1,3}";
    rates_read_back: Rate = "[0-9]{1,5} ?/ ?[0-9]{0,4}(ms|s|m|h|d|us|ns)";
    sources_read_back: Source = r"(header:[A-Za-z-]{1,8}|kv:\PC{1,8}|json:(/[~01ab/]{0,4}){1,3})";
    spans_read_back: Span = "([0-9]{1,4} ?(ns|us|ms|s|m|h|d|w|M|y) ?){1,3}";
    upstreams_read_back: UpstreamUrl =
        r"http://([a-z.-]{1,6}|\[?[0-9a-f:]{1,6}\]?)(:[0-9]{1,5})?/?|unix:/.{0,8}";
}

fn reads_back<T>(text: &str) -> TestCaseResult
where
    T: FromStr<Err = String> + Display + Debug + PartialEq,
{
    if let Ok(value) = text.parse::<T>() {
        let printed = value.to_string();
        prop_assert_eq!(printed.parse(), Ok(value), "{:?} is printed as {:?}", text, printed);
    }
    Ok(())
}

/// Whom a trusted proxy's forwarded lines name, those that a header can hold.
fn sender(lines: &[&[u8]]) -> Client {
    let trusted =
        TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], AddressHeader::Chain("x-forwarded-for"));
    let peer = Peer { address: IpAddr::from([10, 0, 0, 1]), relay: None, tls: false };
    let lines = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
    let headers: HeaderMap = lines.map(|line| (X_FORWARDED_FOR, line)).collect();
    trusted.resolve(peer, Headers::Made(&headers)).0
}

const X_FORWARDED_FOR: http::HeaderName = http::HeaderName::from_static("x-forwarded-for");

/// Any text, or pieces of what the parsers know.
fn text() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "header:",
        "kv:",
        "json:",
        "{",
        "}",
        "body",
        "/",
        "~",
        "~1",
        "*",
        "?",
        "%2e",
        "..",
        "http://",
        "https://",
        "unix:",
        "[",
        "]",
        "::",
        "::ffff:",
        ":",
        "127.0.0.1",
        "255",
        "/33",
        "/128",
        "off",
        "0",
        "1",
        "00",
        "18446744073709551616",
        "99999999999999999999999",
        "ns",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "B",
        "KiB",
        "GiB",
        " ",
        "+",
        "-",
        ".",
        "\0",
        "é",
        "\u{ff10}",
    ];
    prop_oneof![any::<String>(), vec(select(PIECES), 0..8).prop_map(|pieces| pieces.concat())]
}

/// Any bytes, or what the parsers take with a part replaced.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    const TAKEN: &[&[u8]] = &[
        b"POST /hooks?a=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        b"\r\nGET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        br#"{"id":"a\u00e9","data":[{"id":-1.5e3},null,true],"x":{"id":"b"}}"#,
        b"1700000000123",
        b"2023-11-14T22:13:20.123+01:00",
        b"Tue, 14 Nov 2023 22:13:20 GMT",
        b"whsec_AAECAwQFBgc=",
        b"203.0.113.1, 10.0.0.2,::ffff:10.0.0.3",
    ];
    let mangled = (select(TAKEN), any::<Index>(), any::<Index>(), vec(any::<u8>(), 0..4)).prop_map(
        |(taken, from, to, other)| {
            let from = from.index(taken.len() + 1);
            let to = from + to.index(taken.len() - from + 1);
            [&taken[..from], &other, &taken[to..]].concat()
        },
    );
    prop_oneof![vec(any::<u8>(), 0..100), mangled]
}
