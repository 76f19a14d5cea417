//! One line of the log, for machines and for people. What strangers wrote stays one field of
//! one line in both.

use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::{Format, Severity};
use crate::clock::{Now, to_rfc3339, write_rfc3339};
use crate::gate::delivery::Client;
use crate::gate::reason::{Reason, Verdict};
use crate::telemetry::{Proof, Record};

/// The current second, formatted once.
#[derive(Default)]
pub(super) struct Second(i64, String);

/// One line under construction. Values of strangers are escaped and cut.
pub(super) struct Line<'l> {
    out: &'l mut Vec<u8>,
    format: Format,
}

/// The name of a field. A dozen stand in each line, so each is one literal with what JSON puts around it.
#[derive(Clone, Copy)]
pub(super) struct Key(pub(super) &'static str);

macro_rules! key {
    ($name:literal) => {
        Key(concat!(",\"", $name, "\":\""))
    };
}
pub(super) use key;

impl Key {
    fn name(self) -> &'static str {
        self.0.trim_matches([',', ':', '"'])
    }
}

/// No field of a line is longer.
pub(in crate::telemetry) const MAX_FIELD: usize = 256;
const DIGITS: &[u8; 10] = b"0123456789";

impl<'l> Line<'l> {
    pub(super) fn begin(
        out: &'l mut Vec<u8>,
        second: &mut Second,
        now: Now,
        format: Format,
        (event, severity): (&str, Severity),
    ) -> Self {
        let ms = now.wall_ms;
        let number = ms.div_euclid(1000);
        if second.0 != number {
            *second = Second(number, to_rfc3339(number * 1000).trim_end_matches('Z').to_owned());
        }
        let mut line = Line { out, format };
        let millis = usize::try_from(ms.rem_euclid(1000)).unwrap_or_default();
        match format {
            Format::Json => {
                line.push("{\"timestamp\":\"");
                line.push(&second.1);
                line.thousandths(millis);
                line.push("Z\"");
                line.word(key!("severity_text"), severity.label());
                line.word(key!("event.name"), event);
            }
            Format::Text => {
                let time = second.1.split_once('T').map_or("", |(_, time)| time);
                line.push(time);
                line.thousandths(millis);
                line.write(format_args!(" {:5} {event}", severity.label()));
            }
        }
        line
    }

    pub(super) fn end(self) {
        if self.format == Format::Json {
            self.out.push(b'}');
        }
        self.out.push(b'\n');
    }

    fn write(&mut self, args: std::fmt::Arguments<'_>) {
        _ = self.out.write_fmt(args); // writing to memory does not fail
    }

    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn quote(&mut self) {
        if self.format == Format::Json {
            self.out.push(b'"');
        }
    }

    // Where it shows that the name is a literal, it is written in a few instructions.
    #[expect(clippy::inline_always, reason = "so that the name is a literal here as well")]
    #[inline(always)]
    fn key(&mut self, Key(key): Key) {
        match self.format {
            Format::Json => self.push(&key[..key.len() - 1]),
            Format::Text => self.key_for_people(Key(key)),
        }
    }

    /// The same before a text.
    #[expect(clippy::inline_always, reason = "as for `key`")]
    #[inline(always)]
    fn key_of_text(&mut self, Key(key): Key) {
        match self.format {
            Format::Json => self.push(key),
            Format::Text => self.key_for_people(Key(key)),
        }
    }

    fn key_for_people(&mut self, key: Key) {
        self.push(" ");
        let name = key.name();
        if name != "body" {
            self.push(name.rsplit("hookgate.").next().unwrap_or(name));
            self.push("=");
        }
    }

    #[expect(clippy::inline_always, reason = "as for `key`")]
    #[inline(always)]
    pub(super) fn number(&mut self, key: Key, value: usize) {
        self.key(key);
        digits(self.out, value);
    }

    #[expect(clippy::inline_always, reason = "as for `key`")]
    #[inline(always)]
    pub(super) fn millis(&mut self, key: Key, value: Duration) {
        self.key(key);
        self.thousands(usize::try_from(value.as_micros()).unwrap_or(usize::MAX));
    }

    fn thousands(&mut self, thousandths: usize) {
        digits(self.out, thousandths / 1000);
        self.thousandths(thousandths % 1000);
    }

    fn thousandths(&mut self, number: usize) {
        let digits = [b'.', DIGITS[number / 100 % 10], DIGITS[number / 10 % 10], DIGITS[number % 10]];
        self.out.extend_from_slice(&digits);
    }

    #[expect(clippy::inline_always, reason = "as for `key`")]
    #[inline(always)]
    fn address(&mut self, key: Key, address: IpAddr) {
        self.key_of_text(key);
        write_address(self.out, address);
        self.quote();
    }

    /// A word of ours: needs no escaping.
    #[expect(clippy::inline_always, reason = "as for `key`")]
    #[inline(always)]
    pub(super) fn word(&mut self, key: Key, value: impl AsRef<[u8]>) {
        self.key_of_text(key);
        self.out.extend_from_slice(value.as_ref());
        self.quote();
    }

    /// A text of whatever origin. In a line for people it stands between quotes unless it is
    /// plainly one value; what a line tells is prose, as long as nothing in it looks like a field.
    pub(super) fn text(&mut self, key: Key, value: &str) {
        self.key(key);
        let is_plain = match key.name() {
            "body" => !value.contains(['=', '"']),
            _ => is_all_plain(value.as_bytes()),
        };
        let quotes = self.format == Format::Json || !is_plain;
        // For readers who do not know quotes, and cut a line at its spaces.
        let hides_fields = self.format == Format::Text && value.contains(' ');
        if quotes {
            self.push("\"");
        }
        for c in value.chars() {
            match c {
                '"' | '\\' if quotes => self.out.extend_from_slice(&[b'\\', c as u8]),
                '=' if hides_fields => self.push("\\u003d"),
                c => self.escaped(c),
            }
        }
        if quotes {
            self.push("\"");
        }
    }

    /// Bytes of a stranger: not necessarily UTF-8, and not longer than [`MAX_FIELD`].
    #[expect(clippy::inline_always, reason = "as for `key`")]
    #[inline(always)]
    pub(super) fn bytes(&mut self, key: Key, value: &[u8]) {
        let cut = &value[..value.len().min(MAX_FIELD)];
        if is_all_plain(cut) {
            self.word(key, cut);
        } else {
            self.text(key, &String::from_utf8_lossy(cut));
        }
    }

    fn escaped(&mut self, c: char) {
        if is_active(c) {
            self.write(format_args!("\\u{:04x}", u32::from(c)));
        } else {
            let mut utf8 = [0; 4];
            self.out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes());
        }
    }

    pub(super) fn decision(&mut self, record: &Record, verdict: Verdict, reason: Reason, total: Duration) {
        self.word(key!("hookgate.verdict"), verdict.label());
        self.word(key!("hookgate.reason"), reason.label());
        if !record.observed.is_empty() {
            let observed: Vec<_> = record.observed.iter().map(|r| r.label()).collect();
            self.text(key!("hookgate.observed"), &observed.join(" "));
        }
        self.bytes(key!("http.request.method"), record.method.as_str().as_bytes());
        self.bytes(key!("url.path"), &record.path);
        self.number(key!("http.response.status_code"), record.status.into());
        self.number(key!("http.request.body.size"), record.body_size);
        match record.client {
            Some(Client::Known(client)) => self.address(key!("client.address"), client),
            Some(Client::Unknown) => self.word(key!("client.address"), "unknown"),
            None => {}
        }
        if let Some(peer) = record.peer {
            self.address(key!("network.peer.address"), peer);
        }
        let id = record.request_id.hex();
        self.word(key!("trace_id"), record.trace.as_ref().map_or(&id, |parent| &parent.trace));
        self.word(key!("hookgate.request_id"), id);
        if let Some((route, _)) = &record.route {
            self.word(key!("hookgate.route"), route.name.as_bytes());
            self.word(key!("hookgate.provider"), route.provider.as_bytes());
        }
        if let Some(tenant) = &record.tenant {
            self.word(key!("hookgate.tenant"), tenant.as_bytes());
        }
        if let Some(proof) = &record.proof {
            self.proof(proof);
        }
        self.millis(key!("hookgate.duration.total_ms"), total);
        self.millis(key!("hookgate.duration.verify_ms"), record.verify);
        if let Some((_, took)) = record.upstream {
            self.millis(key!("hookgate.duration.upstream_ms"), took);
        }
        if let Some(fault) = &record.fault {
            self.text(key!("server.address"), &fault.server);
            self.text(key!("error.type"), &fault.kind);
            if let Some(message) = &fault.message {
                self.text(key!("error.message"), message);
            }
        }
    }

    fn proof(&mut self, proof: &Proof) {
        self.bytes(key!("hookgate.key_id"), proof.key_id.as_bytes());
        self.word(key!("hookgate.assurance"), proof.assurance.label());
        if let Some(key) = &proof.key {
            self.word(key!("hookgate.idempotency_key"), crate::telemetry::hex(key.as_bytes()));
        }
        if let Some(id) = &proof.event_id {
            self.bytes(key!("hookgate.event.id"), id.as_bytes());
        }
        if let Some(event_type) = &proof.event_type {
            self.bytes(key!("hookgate.event.type"), event_type.as_bytes());
        }
        if let Some(ms) = proof.event_time_ms {
            self.key_of_text(key!("hookgate.event.time"));
            write_rfc3339(self.out, ms);
            self.quote();
        }
    }
}

/// Numbers stand in each line: through `fmt` they would cost as much as all the rest of it.
pub fn digits(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

pub fn write_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let (mut text, mut end) = ([0; 16], 0);
            for octet in v4.octets() {
                let (digits, length) = OCTETS[usize::from(octet)];
                text[end..][..4].copy_from_slice(&digits);
                end += usize::from(length);
            }
            out.extend_from_slice(&text[..end - 1]);
        }
        IpAddr::V6(v6) => _ = write!(out, "{v6}"), // writing to memory does not fail
    }
}

/// The digits of a part of an address and the dot behind them, and how many these are: two or three
/// addresses stand in what is written for each delivery.
static OCTETS: [([u8; 4], u8); 256] = {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let (text, end) = &mut octets[octet];
        let mut place = if octet > 99 {
            100
        } else if octet > 9 {
            10
        } else {
            1
        };
        while place > 0 {
            text[*end as usize] = DIGITS[octet / place % 10];
            *end += 1;
            place /= 10;
        }
        *end += 1;
        octet += 1;
    }
    octets
};

/// Stands for itself in both formats, and is one value without quotes. Every byte is looked at, which
/// many instructions can do for several of them at once.
fn is_all_plain(value: &[u8]) -> bool {
    let special = |b: u8| u8::from(b == b'"') | u8::from(b == b'\\') | u8::from(b == b'=');
    let odd = |b: u8| special(b) | u8::from(!b.is_ascii_graphic());
    !value.is_empty() && value.iter().fold(0, |any, b| any | odd(*b)) == 0
}

/// What a terminal or a reader of lines might act on: controls, ends of lines, and what hides or
/// turns around the text beside it. All have four hex digits.
pub fn is_active(c: char) -> bool {
    matches!(c, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn composed(format: Format, compose: impl FnOnce(&mut Line<'_>)) -> String {
        let (mut out, mut second) = (Vec::new(), Second::default());
        let event = ("hookgate.test", Severity::Info);
        let mut line = Line::begin(&mut out, &mut second, clock::now(), format, event);
        compose(&mut line);
        line.end();
        String::from_utf8(out).unwrap()
    }

    fn prose(format: Format, message: &str) -> String {
        composed(format, |line| line.text(key!("body"), message))
    }

    #[test]
    fn an_address_is_written_as_it_is_everywhere() {
        for n in 0..=u8::MAX {
            for address in [[n; 4], [255, n, 0, 10], [1, 22, n, 255]].map(IpAddr::from) {
                let mut out = Vec::new();
                write_address(&mut out, address);
                assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
            }
        }
    }

    #[test]
    fn a_line_stays_one_line_whatever_is_in_it() {
        for nasty in
            ["a\r\nb", "\u{1b}[31mred", "quote\" back\\slash", "\u{2028}", "\u{202e}", "\u{0}", "ünï"]
        {
            for format in [Format::Json, Format::Text] {
                let text = prose(format, nasty);
                assert_eq!(text.lines().count(), 1, "{text:?}");
                assert!(!text.trim_end().contains(|c: char| c.is_control()), "{text:?}");
            }
            let line: serde_json::Value = serde_json::from_str(&prose(Format::Json, nasty)).unwrap();
            assert_eq!(line["body"], nasty);
            assert_eq!(line["event.name"], "hookgate.test");
        }
    }

    /// A reader of `name=value` that knows quotes, as people's tools do.
    fn fields(line: &str) -> Vec<(String, String)> {
        let (mut fields, mut rest) = (Vec::new(), line);
        while let Some((name, value)) = rest.split_once('=') {
            let name = name.rsplit(' ').next().unwrap().to_owned();
            let mut value = value.chars();
            let mut read = String::new();
            if value.as_str().starts_with('"') {
                value.next();
                while let Some(c) = value.next().filter(|c| *c != '"') {
                    let escaped = if c == '\\' { value.next().unwrap() } else { c };
                    read.push(match (c, escaped) {
                        ('\\', 'u') => {
                            let digits: String = value.by_ref().take(4).collect();
                            char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
                        }
                        (_, escaped) => escaped,
                    });
                }
            } else {
                read = value.by_ref().take_while(|c| *c != ' ').collect();
            }
            rest = value.as_str();
            fields.push((name, read));
        }
        fields
    }

    #[test]
    fn a_strangers_value_is_one_field_of_a_line_for_people() {
        let values = [
            "",
            " ",
            "a b",
            "1 verdict=accepted",
            "a=b",
            "\"",
            "\" verdict=accepted",
            "\\\" x=y",
            "/a?b",
            "é=1",
        ];
        for value in values {
            let line = composed(Format::Text, |line| {
                line.bytes(key!("hookgate.event.id"), value.as_bytes());
                line.text(key!("hookgate.event.type"), value);
                line.word(key!("hookgate.verdict"), "refused");
            });
            let found = fields(line.trim_end());
            let told = [("event.id", value), ("event.type", value), ("verdict", "refused")];
            let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(found, told, "{line:?}");
            assert_eq!(line.matches(" verdict=").count(), 1, "nor for whoever knows no quotes: {line:?}");
        }
        for said in ["listens on 127.0.0.1:80", "it's fine"] {
            assert!(prose(Format::Text, said).ends_with(&format!("hookgate.test {said}\n")));
        }
        let forged = prose(Format::Text, "no answer verdict=accepted");
        assert!(forged.contains("\"no answer verdict\\u003daccepted\""), "{forged}");
    }
}
