//! What is tried: every mark in a name for `-`, every name by which servers and frameworks take
//! a request for another one, and every way to climb out of a path.

/// Everything that a header's name may hold and that is no letter, no digit and no `-`.
pub const MARKS: &str = "!#$%&'*+.^_`|~";

/// What an attacker's values hold, so that they are found wherever they end up.
pub const FORGED: &str = "forged";

/// Our names and the route's, with that mark in the places of some `-`.
pub fn alike(mark: char) -> Vec<(String, &'static str)> {
    let names = [
        "Hookgate?Verdict",
        "Hookgate?Assurance",
        "Hookgate?Route",
        "Hookgate?Key?Id",
        "Hookgate-Event?Type",
        "Hookgate?Event-Id",
        "Hookgate?Request?Id",
        "X-Forwarded?For",
        "X?Forwarded?For",
        "X?Forwarded-Proto",
        "X-Forwarded?Host",
        "X-Hub?Signature-256",
        "X?Hub?Signature?256",
        "X-GitHub?Event",
        "X?GitHub-Delivery",
        "Content?Type",
        "User?Agent",
        "Remote?User",
        "Script?Name",
        "Path?Info",
        "Request?Method",
        "X-HTTP?Method-Override",
        "Client?IP",
    ];
    let mut lines: Vec<_> = names.iter().map(|name| (name.replace('?', &mark.to_string()), FORGED)).collect();
    // With '_' these two are refused as a framing that might be read in two ways.
    if mark != '_' {
        lines.push((format!("Transfer{mark}Encoding"), "chunked"));
        lines.push((format!("Content{mark}Length"), "3"));
    }
    lines
}

/// By these names something takes the method, the path, the scheme, the host, the address or the
/// user of a request from its headers.
pub const WORDS: &[(&str, &str)] = &[
    ("SCRIPT_NAME", "/hooks"),
    ("PATH_INFO", "/admin/forged"),
    ("PATH_TRANSLATED", "/admin/forged"),
    ("REQUEST_URI", "/admin/forged"),
    ("REQUEST_METHOD", "DELETE"),
    ("QUERY_STRING", FORGED),
    ("REMOTE_USER", FORGED),
    ("REMOTE_ADDR", "192.0.2.66"),
    ("AUTH_TYPE", FORGED),
    ("HTTPS", "on"),
    ("SERVER_NAME", FORGED),
    ("DOCUMENT_ROOT", "/forged"),
    ("HTTP_HOOKGATE_VERDICT", FORGED),
    ("HTTP_HOST", FORGED),
    ("Proxy", "http://forged/"),
    ("Script-Name", "/hooks"),
    ("X-Script-Name", "/hooks"),
    ("X-Original-URL", "/admin/forged"),
    ("X-Original-URI", "/admin/forged"),
    ("X-Original-Method", "DELETE"),
    ("X-Original-Host", FORGED),
    ("X-Original-For", "192.0.2.66"),
    ("X-Rewrite-URL", "/admin/forged"),
    ("X-HTTP-Method", "DELETE"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Method-Override", "DELETE"),
    ("X-HTTP-Host-Override", FORGED),
    ("X-Host", FORGED),
    ("X-Forwarded", "for=192.0.2.66"),
    ("X-Forwarded-For", "192.0.2.66"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Protocol", "ssl"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Ssl", "on"),
    ("X-Forwarded-Host", FORGED),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/forged"),
    ("X-Forwarded-Path", "/admin/forged"),
    ("X-Forwarded-Uri", "/admin/forged"),
    ("X-Forwarded-User", FORGED),
    ("X-Forwarded-Client-Cert", FORGED),
    ("Forwarded", "for=192.0.2.66;host=forged;proto=https"),
    ("Forwarded-For", "192.0.2.66"),
    ("Client-IP", "192.0.2.66"),
    ("X-Real-IP", "192.0.2.66"),
    ("X-Client-IP", "192.0.2.66"),
    ("X-Cluster-Client-IP", "192.0.2.66"),
    ("True-Client-IP", "192.0.2.66"),
    ("CF-Connecting-IP", "192.0.2.66"),
    ("Fastly-Client-IP", "192.0.2.66"),
    ("X-Scheme", "https"),
    ("X-Url-Scheme", "https"),
    ("Front-End-Https", "on"),
    ("X-ARR-SSL", FORGED),
    ("Remote-User", FORGED),
    ("X-Remote-User", FORGED),
    ("X-Auth-Request-User", FORGED),
    ("Auth-User", FORGED),
    ("Client-Cert", FORGED),
    ("SSL-Client-Verify", "SUCCESS"),
    ("X-Sendfile-Type", FORGED),
    ("X-Accel-Mapping", "/=/forged"),
];

/// Below `/hooks/`, whole segments and what could divide or end one.
pub fn climbs() -> Vec<String> {
    let whole = [
        "..",
        ".%2e",
        "%2E%2E",
        "..;",
        "..;x=1",
        ".;/..;",
        ";/..",
        "x;/..",
        "x/../..",
        "...",
        "....",
        "%252e%252e",
        "..%252f",
        "%%32%65%%32%65",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%f0%80%80%ae%f0%80%80%ae",
        "..%c0%af",
        "..%c1%9c",
        "%u002e%u002e",
        "..%u2215",
        "..%u002f",
        "..%c2%85",
        "..%e2%80%a8",
        "..%e3%80%80",
        "%ef%bc%8e%ef%bc%8e",
        "..%ef%bc%8f",
        "..%ef%bc%bc",
        "..%ef%bc%9b",
        "..%cd%be",
        "..%e2%88%95",
        "..%e2%81%84",
        "%e2%80%a5",
        "%e2%80%a4%e2%80%a4",
        "..%",
        "..%2",
        "%",
    ];
    let mut climbs: Vec<_> = whole.map(|climb| format!("{climb}/admin/x")).to_vec();
    for byte in 0..=u8::MAX {
        let escape = format!("%{byte:02x}");
        climbs.push(format!("..{escape}/admin/x"));
        climbs.push(format!("{escape}{escape}/admin/x"));
        climbs.push(format!("x{escape}..{escape}..{escape}admin{escape}x"));
    }
    for mark in (b'!'..=b'~').map(char::from).filter(|c| !c.is_ascii_alphanumeric() && *c != '#' && *c != '?')
    {
        climbs.push(format!("..{mark}/admin/x"));
        climbs.push(format!("{mark}../admin/x"));
        climbs.push(format!("x{mark}..{mark}..{mark}admin{mark}x"));
    }
    climbs
}

/// Plain names below `/hooks/`.
pub const NAMES: &[&str] = &["x", "x/", "a.b", "a-b_c~d", "a@b:c,d=e&f", "%C3%A9", "%E6%97%A5%E6%9C%AC/1"];
