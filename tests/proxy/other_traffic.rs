//! The three ways for the application's other traffic (k8s/README.md), with nginx as the Ingress, and what each
//! of them leaves open.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::support::gate::program;
use crate::support::{App, Dir, Gate, Request, Response, Sender, Signer, until};

/// nginx in front of the gate, which gets what stands below `hooks`; the rest goes to `other`.
struct Ingress {
    child: Child,
    address: SocketAddr,
    _dir: Dir,
}

impl Ingress {
    fn before(hooks: SocketAddr, other: SocketAddr) -> Option<Ingress> {
        program("nginx")?;
        let dir = Dir::new();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f;\n\
             uwsgi_temp_path u; scgi_temp_path s;\n\
             proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https;\n\
             proxy_set_header X-Forwarded-For $remote_addr;\n\
             server {{ listen {address};\n\
             location /hooks {{ proxy_pass http://{hooks}; }}\nlocation / {{ proxy_pass http://{other}; }} }} }}\n"
        );
        let config = dir.write("nginx.conf", &config);
        let child = Command::new("nginx")
            .args(["-p".as_ref(), config.parent().unwrap().as_os_str(), "-c".as_ref(), config.as_os_str()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("nginx", || TcpStream::connect(address).is_ok());
        Some(Ingress { child, address, _dir: dir })
    }

    fn send(&self, request: &Request) -> Response {
        Sender::connect(self.address).exchange(request)
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn address(app: &App) -> SocketAddr {
    app.url().strip_prefix("http://").unwrap().parse().unwrap()
}

fn forged(target: &str) -> Request {
    Signer::github().event().tampered().to(target).with("Hookgate-Verdict", "accepted")
}

/// Ways one and two: the application listens twice.
#[test]
fn what_goes_around_the_gate_is_nobodys_word() {
    let (hooks, web) = (App::ok(), App::ok());
    let gate = Gate::before(&hooks)
        .without("insecure-allow-http")
        .with("trusted-proxy", "127.0.0.1/32")
        .with("path", "/hooks/gh")
        .start();
    let Some(ingress) = Ingress::before(gate.address(), address(&web)) else {
        eprintln!("SKIPPED: nginx is not on PATH");
        return;
    };
    assert_eq!(ingress.send(&Signer::github().event().to("/hooks/gh")).status, 200);
    assert_eq!(hooks.only_request().header("Hookgate-Verdict"), Some("accepted"));
    assert_eq!(ingress.send(&forged("/hooks/gh")).status, 401);
    assert_eq!(ingress.send(&forged("/page")).status, 200);
    assert!(web.only_request().line.starts_with("POST /page "));

    // What this Ingress does not take for the gate's path reaches the second port, and with it whatever a
    // stranger writes. Other Ingresses read other paths so.
    for (target, around) in [
        ("/HOOKS/gh", true),
        ("/hooks/gh/", false),
        ("//hooks/gh", false),
        ("/hooks%2fgh", false),
        ("/x/../hooks/gh", false),
    ] {
        let before = web.seen();
        ingress.send(&forged(target));
        assert_eq!(web.seen() > before, around, "{target}");
    }
    assert_eq!(
        web.requests().last().unwrap().header("Hookgate-Verdict"),
        Some("accepted"),
        "so it must be dropped there"
    );
    assert_eq!(hooks.seen(), 1);
}

/// Way three: everything goes through the gate.
#[test]
fn what_passes_through_the_gate_is_marked() {
    let app = App::ok();
    let gate =
        Gate::before(&app).without("provider").without("secret-file").without("insecure-allow-http").config(
            "trusted_proxies: [127.0.0.1/32]\nroutes:\n  - { name: gh, path: /hooks/gh, provider: github, \
         secrets: [{ file: DIR/key-1 }] }\n  - { name: web, path: \"/*\", pass: true }\n",
        );
    let gate = gate.start();
    let Some(ingress) = Ingress::before(gate.address(), gate.address()) else {
        eprintln!("SKIPPED: nginx is not on PATH");
        return;
    };
    assert_eq!(ingress.send(&Signer::github().event().to("/hooks/gh")).status, 200);
    assert_eq!(app.only_request().header("Hookgate-Verdict"), Some("accepted"));
    for target in ["/hooks/gh", "/hooks/gh/", "/HOOKS/gh", "//hooks/gh", "/hooks%2fgh", "/x/../hooks/gh"] {
        let status = ingress.send(&forged(target)).status;
        assert!(matches!(status, 400 | 401 | 404), "{target}: {status}");
    }
    assert_eq!(app.seen(), 1);
    assert_eq!(ingress.send(&forged("/page?q=1")).status, 200);
    let seen = app.requests().pop().unwrap();
    assert_eq!(
        (seen.line.as_str(), seen.headers.all("Hookgate-Verdict")),
        ("POST /page?q=1 HTTP/1.1", vec!["observed"])
    );
    assert_eq!(seen.header("Hookgate-Route"), Some("web"));
}
