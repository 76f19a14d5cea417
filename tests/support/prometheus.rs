//! A real Prometheus that scrapes gates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::gate::program;
use crate::support::{Dir, Gate, eventually, until};

pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    _dir: Dir,
}

impl Prometheus {
    /// Scrapes the gate every second. `None`, and said aloud, where there is none installed.
    pub fn of(gate: &Gate) -> Option<Self> {
        let Some(prometheus) = program("prometheus") else {
            eprintln!("SKIPPED: prometheus is not on PATH");
            return None;
        };
        let dir = Dir::new();
        let target = gate.ops_address();
        let config = dir.write(
            "prometheus.yaml",
            format!(
                "global: {{ scrape_interval: 1s }}\n\
                 scrape_configs: [{{ job_name: hookgate, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n"
            ),
        );
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--log.level=error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Prometheus { child, address, _dir: dir };
        until("Prometheus", || prometheus.get("/-/ready").is_some());
        Some(prometheus)
    }

    /// The samples of an instant query: labels and value of each.
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let answer =
            eventually("an answer", || self.get(&format!("/api/v1/query?query={}", escape(expression))));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let samples = answer["data"]["result"].as_array().unwrap().iter();
        samples.map(|s| (s["metric"].clone(), s["value"][1].as_str().unwrap().parse().unwrap())).collect()
    }

    /// The value of a query with one result.
    pub fn value(&self, expression: &str) -> Option<f64> {
        self.query(expression).first().map(|(_, value)| *value)
    }

    /// The body of a 200. HTTP/1.0, so that it comes in one piece.
    fn get(&self, target: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET {target} HTTP/1.0\r\nHost: prometheus\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
