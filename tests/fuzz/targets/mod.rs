//! What is fuzzed: a function for each parser that meets bytes from outside, and one for a whole
//! request. Each asserts a law about what it accepts; a panic anywhere breaks all of them.

mod files;
pub mod head;
mod laws;
mod places;
mod request;
mod scheme;
#[path = "../../support/json.rs"]
mod second_opinion;
mod sender;
mod upstream;

use std::future::Future;
use std::path::PathBuf;
use std::sync::OnceLock;

pub type Target = fn(&[u8]);

/// By the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("capture", files::capture),
    ("config", files::config),
    ("content", scheme::content),
    ("form", places::form),
    ("forwarded", sender::forwarded),
    ("head", head::head),
    ("json", scheme::json),
    ("key", scheme::key),
    ("laws", laws::laws),
    ("multipart", places::multipart),
    ("proxy_protocol", sender::proxy_protocol),
    ("public_key", places::public_key),
    ("reply", upstream::reply),
    ("request", request::request),
    ("signature", scheme::signature),
    ("timestamp", scheme::timestamp),
    ("token", places::token),
    ("url", places::url),
];

/// Runs on one runtime for each thread, so that what a target has set up lives on.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// For the files and sockets of this process.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("hookgate-fuzz-{}", std::process::id()));
        _ = std::fs::remove_dir_all(&folder); // of an earlier process of that number
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// Header lines `Name: value` up to an empty line, and what follows. Lines that no head can
/// hold are passed over.
fn head_and_body(data: &[u8]) -> (http::HeaderMap, &[u8]) {
    let mut headers = http::HeaderMap::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|b| *b == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        let value = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, rest)
}
