//! The servers: each is started with a small application of its own that tells how it was
//! called, on a free port of the loopback network, in a directory of its own, and is gone when
//! its owner is.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::gate::program;
use crate::support::{Dir, until};

/// How long a server may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server of another make with an application that answers at `/hooks/` and at `/admin/`.
pub struct Server {
    child: Child,
    port: u16,
    _dir: Dir,
}

impl Server {
    pub fn gunicorn() -> Option<Server> {
        let dir = with_files(&[("wsgi.py", include_str!("apps/wsgi.py"))]);
        start("gunicorn", dir, |port, _| words(&format!("--bind 127.0.0.1:{port} wsgi:app")))
    }

    pub fn uvicorn() -> Option<Server> {
        let dir = with_files(&[("asgi.py", include_str!("apps/asgi.py"))]);
        start("uvicorn", dir, |port, _| words(&format!("--port {port} --lifespan off asgi:app")))
    }

    /// Told that what connects to it is a proxy.
    pub fn waitress() -> Option<Server> {
        let dir = with_files(&[("wsgi.py", include_str!("apps/wsgi.py"))]);
        start("waitress-serve", dir, |port, _| {
            let headers = "x-forwarded-for x-forwarded-proto x-forwarded-host";
            let mut args = words(&format!("--listen=127.0.0.1:{port} --trusted-proxy=127.0.0.1"));
            args.extend([format!("--trusted-proxy-headers={headers}"), "wsgi:app".to_owned()]);
            args
        })
    }

    pub fn puma() -> Option<Server> {
        let dir = with_files(&[("config.ru", include_str!("apps/config.ru"))]);
        start("puma", dir, |port, _| {
            words(&format!("--bind tcp://127.0.0.1:{port} --environment production config.ru"))
        })
    }

    pub fn node() -> Option<Server> {
        let dir = with_files(&[("app.js", include_str!("apps/app.js"))]);
        start("node", dir, |port, _| words(&format!("app.js {port}")))
    }

    /// PHP's own server, with a file for each handler.
    pub fn php() -> Option<Server> {
        let php = include_str!("apps/app.php");
        let dir = with_files(&[("hooks/index.php", php), ("admin/index.php", php)]);
        start("php", dir, |port, _| words(&format!("-n -S 127.0.0.1:{port}")))
    }

    /// PHP as CGI.
    pub fn lighttpd_php() -> Option<Server> {
        let php = include_str!("apps/app.php");
        let interpreter = installed("php-cgi")?;
        let dir = with_files(&[("hooks.php", php), ("admin.php", php)]);
        lighttpd(dir, "php", &interpreter)
    }

    pub fn lighttpd_cgi() -> Option<Server> {
        let cgi = include_str!("apps/app.cgi");
        lighttpd(with_files(&[("hooks.cgi", cgi), ("admin.cgi", cgi)]), "cgi", "")
    }

    pub fn apache() -> Option<Server> {
        let cgi = include_str!("apps/app.cgi");
        let dir = with_files(&[("hooks.cgi", cgi), ("admin.cgi", cgi)]);
        start("apache2", dir, |port, dir| {
            let modules = ["mpm_event", "authz_core", "alias", "cgid"];
            let load =
                modules.map(|m| format!("LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"));
            let at = dir.path().display();
            let conf = format!(
                "{}ServerRoot {at}\nServerName localhost\nDefaultRuntimeDir {at}\nPidFile {at}/pid\n\
                 ErrorLog {at}/log\nScriptSock {at}/cgid\nUser www-data\nGroup www-data\n\
                 Listen 127.0.0.1:{port}\n\
                 ScriptAlias /hooks {at}/hooks.cgi\nScriptAlias /admin {at}/admin.cgi\n",
                load.concat()
            );
            dir.write("conf", conf);
            words(&format!("-D FOREGROUND -f {at}/conf"))
        })
    }

    /// Lets every name through, also those that it drops unless it is told not to.
    pub fn nginx() -> Option<Server> {
        start("nginx", Dir::new(), |port, dir| {
            let seen = [
                "request_method",
                "request_uri",
                "uri",
                "scheme",
                "host",
                "remote_addr",
                "remote_user",
                "content_type",
                "http_hookgate_verdict",
                "http_hookgate_assurance",
                "http_hookgate_key_id",
                "http_hookgate_event_type",
                "http_x_forwarded_for",
                "http_x_forwarded_proto",
                "http_x_forwarded_host",
                "http_x_forwarded_user",
                "http_x_real_ip",
                "http_client_ip",
                "http_x_github_event",
                "http_proxy",
                "http_script_name",
            ];
            let seen = seen.map(|name| format!("{name}=${name}\\n")).concat();
            let at = |handler: &str, path: &str| {
                format!("location {path} {{ return 200 \"handler={handler}\\n{seen}\"; }}\n")
            };
            let conf = format!(
                "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {{}}\n\
                 http {{ access_log off; client_body_temp_path b; proxy_temp_path p;\n\
                 fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
                 underscores_in_headers on; ignore_invalid_headers off;\n\
                 server {{ listen 127.0.0.1:{port};\n{}{}{} }} }}\n",
                at("hooks", "/hooks/"),
                at("admin", "/admin/"),
                at("other", "/"),
            );
            dir.write("conf", conf);
            words(&format!("-p {0} -c {0}/conf", dir.path().display()))
        })
    }

    /// With the valve that reads what proxies say.
    pub fn tomcat() -> Option<Server> {
        const HOME: &str = "/usr/share/tomcat10";
        if !Path::new(HOME).join("lib/catalina.jar").exists() {
            eprintln!("SKIPPED: tomcat10 is not installed");
            return None;
        }
        installed("javac")?; // what runs a file of source is part of the compiler
        let dir = with_files(&[("App.java", include_str!("apps/App.java"))]);
        start("java", dir, |port, dir| {
            let jars = format!("{HOME}/lib/*:{HOME}/bin/tomcat-juli.jar");
            words(&format!("-cp {jars} App.java {port} {}", dir.path().display()))
        })
    }

    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

impl Drop for Server {
    /// Asked first, because some have children that only they know.
    fn drop(&mut self) {
        _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn with_files(files: &[(&str, &str)]) -> Dir {
    let dir = Dir::new();
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    dir
}

fn lighttpd(dir: Dir, kind: &str, interpreter: &str) -> Option<Server> {
    start("lighttpd", dir, |port, dir| {
        let at = dir.path().display();
        let conf = format!(
            "server.document-root = \"{at}\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}\n\
             server.modules = (\"mod_alias\", \"mod_cgi\")\n\
             alias.url = (\"/hooks\" => \"{at}/hooks.{kind}\", \"/admin\" => \"{at}/admin.{kind}\")\n\
             cgi.assign = (\".{kind}\" => \"{interpreter}\")\n"
        );
        dir.write("conf", conf);
        words(&format!("-D -f {at}/conf"))
    })
}

/// Where a program is; said aloud if it is nowhere.
fn installed(name: &str) -> Option<String> {
    let found = program(name).map(|path| path.to_str().unwrap().to_owned());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed");
    }
    found
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Starts a program in its directory, with arguments for that port, and waits until it listens.
fn start(name: &str, dir: Dir, arguments: impl FnOnce(u16, &Dir) -> Vec<String>) -> Option<Server> {
    let program = installed(name)?;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(program)
        .args(arguments(port, &dir))
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { child, port, _dir: dir };
    until(name, || TcpStream::connect(server.address()).is_ok());
    Some(server)
}
