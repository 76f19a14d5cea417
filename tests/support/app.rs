//! The application behind the gate: raw sockets and a script, so that it can also do
//! what no application should. It records every connection and every byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Dir, Head, Headers, LIMIT, Latch, eventually, lock, until};

/// What the application does once it has read a request.
#[derive(Clone)]
pub struct Answer(Vec<Step>);

#[derive(Clone)]
enum Step {
    Wait(Duration),
    Until(Latch),
    Send(Vec<u8>),
    /// An orderly end.
    Close,
    /// A reset, as of a process that was killed.
    Reset,
    /// Nothing more until the other side gives up.
    Hang,
}

impl Answer {
    pub fn ok() -> Self {
        Answer::status(200)
    }

    pub fn status(status: u16) -> Self {
        Answer::raw(format!("HTTP/1.1 {status} Said\r\nContent-Length: 3\r\n\r\napp"))
    }

    /// Exactly these bytes.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Answer(vec![Step::Send(bytes.into())])
    }

    pub fn never() -> Self {
        Answer(vec![Step::Hang])
    }

    /// Resets the connection instead of answering.
    pub fn reset() -> Self {
        Answer(vec![Step::Reset])
    }

    pub fn after(mut self, wait: Duration) -> Self {
        self.0.insert(0, Step::Wait(wait));
        self
    }

    pub fn when(mut self, latch: &Latch) -> Self {
        self.0.insert(0, Step::Until(latch.clone()));
        self
    }

    pub fn then(mut self, other: Answer) -> Self {
        self.0.extend(other.0);
        self
    }

    pub fn then_close(mut self) -> Self {
        self.0.push(Step::Close);
        self
    }

    /// Plays the steps. `false` ends the connection.
    fn play(self, mut stream: &Stream) -> bool {
        for step in self.0 {
            match step {
                Step::Wait(wait) => std::thread::sleep(wait),
                Step::Until(latch) => latch.pass(),
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).is_err() {
                        return false;
                    }
                }
                Step::Close => return false,
                Step::Reset => {
                    stream.reset();
                    return false;
                }
                Step::Hang => {
                    _ = io::copy(&mut stream, &mut io::sink());
                    return false;
                }
            }
        }
        true
    }
}

/// One request as the application read it.
#[derive(Clone, Debug)]
pub struct Received {
    pub line: String,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// Answers the request with that number, counted from zero.
type Script = Box<dyn Fn(usize, &Received) -> Answer + Send + Sync>;

pub struct App {
    place: Place,
    shared: Arc<Shared>,
    listening: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

const SOCKET: &str = "app.sock";

enum Place {
    Tcp(SocketAddr),
    /// The socket is [`SOCKET`] in it.
    Unix(Dir),
}

struct Shared {
    script: Script,
    /// The other ends of the connections that were accepted.
    peers: Mutex<Vec<Option<SocketAddr>>>,
    open: Mutex<Vec<Weak<Stream>>>,
    requests: Mutex<Vec<Received>>,
    /// What came on connections without ever becoming a request.
    fragments: Mutex<Vec<u8>>,
}

impl App {
    pub fn new(script: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::Tcp(listener.local_addr().unwrap());
        App::at(place, Listener::Tcp(listener), Box::new(script))
    }

    #[allow(dead_code, reason = "for the tests of `proxy` alone")]
    pub fn on_unix_socket(script: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static) -> Self {
        let dir = Dir::new();
        let listener = Listener::Unix(UnixListener::bind(dir.join(SOCKET)).unwrap());
        App::at(Place::Unix(dir), listener, Box::new(script))
    }

    pub fn ok() -> Self {
        App::always(Answer::ok())
    }

    pub fn always(answer: Answer) -> Self {
        App::script([answer])
    }

    /// One answer after the other; the last one stays.
    pub fn script(answers: impl Into<Vec<Answer>>) -> Self {
        let answers = answers.into();
        App::new(move |n, _| answers[n.min(answers.len() - 1)].clone())
    }

    fn at(place: Place, listener: Listener, script: Script) -> Self {
        let shared = Shared {
            script,
            peers: Mutex::default(),
            open: Mutex::default(),
            requests: Mutex::default(),
            fragments: Mutex::default(),
        };
        let mut app = App { place, shared: Arc::new(shared), listening: None };
        app.listen(listener);
        app
    }

    pub fn url(&self) -> String {
        match &self.place {
            Place::Tcp(address) => format!("http://{address}"),
            Place::Unix(dir) => format!("unix:{}", dir.join(SOCKET).display()),
        }
    }

    pub fn requests(&self) -> Vec<Received> {
        lock(&self.shared.requests).clone()
    }

    /// The only request there was.
    pub fn only_request(&self) -> Received {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "the application saw {requests:?}");
        requests.into_iter().next().unwrap()
    }

    pub fn seen(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// Waits until that many requests were read.
    pub fn wait_for(&self, requests: usize) {
        until(&format!("request {requests} at the application"), || self.seen() >= requests);
    }

    /// How many connections the gate has made. Connections are accepted in their order,
    /// so once one of our own was, none of the gate's is outstanding.
    pub fn connections(&self) -> usize {
        let Place::Tcp(address) = &self.place else { return lock(&self.shared.peers).len() };
        let own = TcpStream::connect(address).unwrap();
        let own_address = own.local_addr().unwrap();
        eventually("our own connection at the application", || {
            let mut peers = lock(&self.shared.peers);
            let ours = peers.iter().position(|peer| *peer == Some(own_address))?;
            peers.remove(ours);
            Some(peers.len())
        })
    }

    /// Not a byte and not even a connection arrived.
    pub fn assert_untouched(&self, why: &str) {
        assert_eq!(self.connections(), 0, "{why}: a connection reached the application");
    }

    /// Whether something came that was no complete request.
    pub fn fragments(&self) -> Vec<u8> {
        lock(&self.shared.fragments).clone()
    }

    /// Closes the listener and every connection.
    pub fn stop(&mut self) {
        let Some((running, thread)) = self.listening.take() else { return };
        running.store(false, Ordering::Release);
        // Wakes the listener up.
        _ = match &self.place {
            Place::Tcp(address) => TcpStream::connect(address).map(drop),
            Place::Unix(dir) => UnixStream::connect(dir.join(SOCKET)).map(drop),
        };
        _ = thread.join();
        if let Place::Unix(dir) = &self.place {
            _ = std::fs::remove_file(dir.join(SOCKET));
        }
        self.close_connections();
    }

    /// Closes every connection, as an application does with idle ones.
    pub fn close_connections(&self) {
        for stream in lock(&self.shared.open).drain(..).filter_map(|stream| stream.upgrade()) {
            stream.close();
        }
    }

    /// Listens again at the same place.
    pub fn start(&mut self) {
        let listener = match &self.place {
            Place::Tcp(address) => Listener::Tcp(TcpListener::bind(address).unwrap()),
            Place::Unix(dir) => Listener::Unix(UnixListener::bind(dir.join(SOCKET)).unwrap()),
        };
        self.listen(listener);
    }

    fn listen(&mut self, listener: Listener) {
        let running = Arc::new(AtomicBool::new(true));
        let (shared, go_on) = (Arc::clone(&self.shared), Arc::clone(&running));
        let thread = std::thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                if !go_on.load(Ordering::Acquire) {
                    return;
                }
                shared.serve(stream, peer);
            }
        });
        self.listening = Some((running, thread));
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn serve(self: &Arc<Self>, stream: Stream, peer: Option<SocketAddr>) {
        stream.set_timeouts();
        lock(&self.peers).push(peer);
        let stream = Arc::new(stream);
        lock(&self.open).push(Arc::downgrade(&stream));
        let shared = Arc::clone(self);
        std::thread::spawn(move || {
            while let Some(request) = shared.read(&stream) {
                let number = {
                    let mut requests = lock(&shared.requests);
                    requests.push(request.clone());
                    requests.len() - 1
                };
                if !(shared.script)(number, &request).play(&stream) {
                    return;
                }
            }
        });
    }

    /// Reads one request; `None` at the end of the connection.
    fn read(&self, mut stream: &Stream) -> Option<Received> {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(head) = Head::parse(&bytes) {
                let length = head.headers.get("content-length").map_or(0, |l| l.parse().unwrap());
                if bytes.len() >= head.length + length {
                    let body = bytes[head.length..head.length + length].to_vec();
                    lock(&self.fragments).extend(&bytes[head.length + length..]);
                    return Some(Received { line: head.line, headers: head.headers, body });
                }
            }
            match stream.read(&mut piece) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
                Ok(_) | Err(_) => {
                    lock(&self.fragments).extend(&bytes);
                    return None;
                }
            }
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Listener::Tcp(listener) => listener.accept().map(|(s, peer)| (Stream::Tcp(s), Some(peer))),
            Listener::Unix(listener) => listener.accept().map(|(s, _)| (Stream::Unix(s), None)),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn set_timeouts(&self) {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(LIMIT)).unwrap(),
            Stream::Unix(stream) => stream.set_read_timeout(Some(LIMIT)).unwrap(),
        }
    }

    /// Ends both directions, whatever its thread is doing.
    fn close(&self) {
        _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// When it is dropped next, the other side reads a reset instead of an end.
    fn reset(&self) {
        if let Stream::Tcp(stream) = self {
            socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
            Stream::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
            Stream::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
