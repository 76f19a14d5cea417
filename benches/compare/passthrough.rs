//! The least that Pingora's own proxy does: every request goes to the application, nothing
//! is looked at. What hookgate is compared with to see the price of its checks.
//!
//! Usage: `passthrough LISTEN APPLICATION`, both as `ADDRESS:PORT`.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::prelude::HttpPeer;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;

struct PassThrough {
    application: String,
}

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.application, false, String::new())))
    }
}

#[expect(clippy::disallowed_methods, reason = "an example reads its own arguments")]
fn main() {
    let [listen, application] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().unwrap_or_else(|_| {
            eprintln!("usage: passthrough LISTEN APPLICATION");
            std::process::exit(2)
        });
    // One thread, like every other proxy of the comparison.
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 128, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), PassThrough { application });
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
