#!/usr/bin/env python3
"""Answers a gate that asks for the secrets of tenants, on a Unix socket: `secrets: { socket: /run/keys/keys.sock }`.

The secrets come from a SQLite database here, to have something that runs:

    CREATE TABLE secrets (route TEXT, tenant TEXT, id TEXT, secret TEXT, not_after TEXT, since TEXT);

Put your own database or vault into `look_up`. What it owes the gate:

- 200 with {"secrets": [{"id", "secret", "not_after"}]}, the newest first, if there is such a tenant;
- 404 if it is certain that there is none;
- anything else, such as 503, if it cannot say: then tenants that the gate remembers go on, and nobody is refused.

Run it as a container in the same pod, with the folder of the socket as a volume that both share:

    tenants.py /run/keys/keys.sock /var/lib/keys/keys.db
"""

import contextlib
import json
import os
import re
import socketserver
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler

TARGET = re.compile(r"/([A-Za-z0-9._-]{1,64})/([A-Za-z0-9._-]{1,128})")


def look_up(database, route, tenant):
    query = "SELECT id, secret, not_after FROM secrets WHERE route = ? AND tenant = ? ORDER BY since DESC"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query, (route, tenant)).fetchall()
    return [{"id": id, "secret": secret, "not_after": not_after} for id, secret, not_after in rows]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        target = TARGET.fullmatch(self.path)
        try:
            secrets = look_up(self.server.database, *target.groups()) if target else []
        except sqlite3.Error as error:
            print(f"the database does not answer: {error}", file=sys.stderr)
            return self.answer(503, {})
        self.answer(200 if secrets else 404, {"secrets": secrets})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "gate"  # a Unix socket has no address

    def log_message(self, *_):
        pass  # the names of tenants are nobody's business


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    path, database = sys.argv[1:]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.umask(0o177)  # who can open the socket can read the secrets
    with Server(path, Handler) as server:
        server.database = database
        server.serve_forever()


if __name__ == "__main__":
    main()
