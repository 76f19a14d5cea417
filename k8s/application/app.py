"""A stand-in for your application: takes webhooks on loopback and says what it got."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"ok")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = {name: value for name, value in self.headers.items() if name.startswith("Hookgate-")}
        print(self.path, len(body), "bytes", told, flush=True)
        self.answer(b"thank you")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


# Loopback: the gate is the only way in.
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Application)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
