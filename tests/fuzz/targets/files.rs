//! What operators hand over: the configuration file, and a captured request.

use bytes::BytesMut;
use hookgate::cli::verify::Captured;
use hookgate::config::flags::{Given, RunArgs};
use hookgate::config::{Config, Problems};
use hookgate::proxy::framing::RequestHead;

use super::folder;

const SECRET: &str = "an unmistakable secret";

/// A file is refused with places and remedies, or it is a gate that refuses something; a key that
/// nobody knows is never passed over, and no secret is ever repeated.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("/dev") || text.contains("/proc") || text.contains("..") {
        return; // files that never end
    }
    std::fs::write(folder().join("key"), SECRET).unwrap();
    let text = text.replace("DIR", folder().to_str().unwrap());
    match loaded(&text) {
        Ok(config) => {
            assert!(!config.routes.is_empty());
            for route in config.routes.iter().map(|keyed| &keyed.route) {
                assert!(route.signature.schemes().iter().any(|scheme| !scheme.keys().is_empty()));
                let window = route.signature.window().unwrap_or(config.startup.replay.window());
                assert!(route.freshness_window().unwrap_or_default() < window);
                assert!(route.max_body <= config.startup.max_buffered);
            }
            let told = config.settings.iter().map(|setting| &setting.value).chain(&config.notices);
            told.for_each(|told| assert!(!told.contains(SECRET), "{told}"));
            assert!(loaded(&format!("{text}\nno_such_key: 1\n")).is_err(), "an unknown key is passed over");
        }
        Err(Problems(problems)) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(!problem.message.is_empty() && !problem.to_string().contains(SECRET), "{problem}");
            }
        }
    }
}

fn loaded(text: &str) -> Result<Config, Problems> {
    let path = folder().join("hookgate.yaml");
    std::fs::write(&path, text).unwrap();
    Config::load(&Given::flags(RunArgs { config: Some(path.into()), ..RunArgs::default() }))
}

/// A capture that the gate would take off the wire holds the same head; and whatever is taken
/// is written in one way that reads back the same.
pub fn capture(data: &[u8]) {
    let Ok(captured) = Captured::parse(data) else { return };
    let mut written = format!("{} ", captured.method).into_bytes();
    written.extend([&captured.target[..], b" HTTP/1.1\r\n"].concat());
    for (name, value) in &captured.headers {
        written.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    written.extend([b"\r\n", &captured.body[..]].concat());
    let again = Captured::parse(&written).expect("what was written reads back");
    // How it was framed is of the bytes that came, and they were written anew.
    assert_eq!(Captured { framing: captured.framing.clone(), ..again }, captured);

    if let Ok(Some(head)) = RequestHead::take(&mut BytesMut::from(data)) {
        assert_eq!(captured.headers, head.headers().to_map(), "the gate would see another head");
    }
}
