//! The application's answer.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use hookgate::budget::{Budget, Share};
use hookgate::config::units::UpstreamUrl;
use hookgate::proxy::upstream::{Reply, Upstream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::{block_on, folder};

/// An answer that is passed on is delimited and holds nothing of the application's connection;
/// written as it is passed on, it is the same answer.
pub fn reply(data: &[u8]) {
    let Some(reply) = answered(data) else { return };
    assert!((200..1000).contains(&reply.status), "{} is no final status", reply.status);
    let written = [&reply.head[..], b"\r\n", &reply.body].concat();
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut head = httparse::Response::new(&mut slots);
    assert!(head.parse(&written).unwrap().is_complete());
    assert_eq!(head.code, Some(reply.status));
    let mut declared: Vec<usize> = Vec::new();
    for header in head.headers.iter() {
        let name = header.name.to_ascii_lowercase();
        let ends_here = ["connection", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
        assert!(!ends_here.contains(&name.as_str()), "{name} is passed on");
        if name == "content-length" {
            declared.push(std::str::from_utf8(header.value).unwrap().parse().unwrap());
        }
    }
    match declared[..] {
        [] => assert!(matches!(reply.status, 204 | 304) && reply.body.is_empty()),
        [length] => assert_eq!(length, reply.body.len()),
        _ => panic!("several lengths"),
    }
    let again = answered(&written).expect("what is passed on is an answer");
    assert_eq!((again.status, again.head, again.body), (reply.status, reply.head, reply.body));
}

/// What the gate makes of an application that says this and hangs up.
fn answered(data: &[u8]) -> Option<Reply> {
    static SAYS: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    thread_local! {
        static UPSTREAM: Upstream = Upstream::new(
            application("says", |mut stream| async move {
                let mut request = [0; REQUEST.len()];
                if stream.read_exact(&mut request).await.is_ok() {
                    let says = SAYS.lock().unwrap().clone();
                    _ = stream.write_all(&says).await; // the gate may have heard enough
                }
            }),
            Duration::from_secs(5),
        );
    }
    *SAYS.lock().unwrap() = data.to_vec();
    let mut share = Share::new(&Budget::new(64 << 20));
    let limit = Duration::from_secs(5);
    UPSTREAM.with(|upstream| block_on(upstream.exchange(REQUEST, b"", limit, &mut share)).ok())
}

const REQUEST: &[u8] = b"POST / HTTP/1.1\r\n\r\n";

/// An application in this thread's runtime; each of its connections is served by `serve`.
pub fn application<F>(name: &str, serve: impl Fn(UnixStream) -> F + Send + 'static) -> UpstreamUrl
where
    F: Future<Output = ()> + Send + 'static,
{
    let path = folder().join(name);
    let listen = path.clone();
    block_on(async {
        let socket = UnixListener::bind(listen).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    UpstreamUrl::Unix(path)
}
