#!/usr/bin/env python3
"""What hostile senders cost: good requests beside slow connections, and peak memory.

    cargo build --profile dist --bin hookgate
    benches/hostile.py                      # both tables
    benches/hostile.py --slow 4000 --seconds 60

Slow: half of the connections send a head, half a body, one byte a second each, and come back
when the gate has cut them off. Beside them one sender delivers signed events, one after the
other, and each must be answered 200 by the application. The limits are the gate's defaults.

Memory: the gate is started anew for each row; the figure is VmHWM of /proc/PID/status, the
most that was ever resident.

Needs Python 3.9 and nothing else. Senders, application and gate share the machine.
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import http.client
import json
import multiprocessing
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECRET = b"a secret of at least sixteen bytes"
MIB = 1 << 20


def main():
    args = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with application() as port:
        slow(args, port)
        memory(args, port)


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("hookgate", nargs="?", type=pathlib.Path, help="the binary to measure",
                        default=pathlib.Path(target) / "dist" / "hookgate")
    parser.add_argument("--slow", type=int, default=2000, help="slow connections")
    parser.add_argument("--seconds", type=int, default=30, help="for each row of the first table")
    return parser.parse_args()


# The application and the gate


@contextlib.contextmanager
def application():
    """Says 200 to everything, in a process of its own. Gives its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    process = multiprocessing.Process(target=serve, args=(listener,), daemon=True)
    process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        process.terminate()
        process.join()


def serve(listener):
    async def connection(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def run():
        async with await asyncio.start_server(connection, sock=listener) as server:
            await server.serve_forever()

    asyncio.run(run())


class Gate:
    """A running gate. Ends with its context."""

    def __init__(self, args, upstream, **flags):
        self.directory = tempfile.TemporaryDirectory()
        secret = pathlib.Path(self.directory.name, "key")
        secret.write_bytes(SECRET)
        self.port, self.ops = free_port(), free_port()
        flags = {
            "listen": f"127.0.0.1:{self.port}",
            "ops-listen": f"127.0.0.1:{self.ops}",
            "upstream": f"http://127.0.0.1:{upstream}",
            "provider": "github",
            "secret-file": secret,
            "insecure-allow-http": "true",
            "rate-limit": "off",
            "failure-limit": "off",
            "max-connections-per-address": "4096",
            "shutdown-delay": "0s",
            "shutdown-timeout": "0s",
            **{name.replace("_", "-"): value for name, value in flags.items()},
        }
        command = [args.hookgate, "run", *(f"--{name}={value}" for name, value in flags.items())]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def __enter__(self):
        for _ in range(500):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/readyz").read()
                return self
            time.sleep(0.01)
        sys.exit("the gate is not ready after five seconds")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.directory.cleanup()

    def metric(self, name, label=""):
        """The sum of a metric's series that have the label."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/metrics").read().decode()
        series = (line for line in text.splitlines() if line.startswith((name + " ", name + "{")) and label in line)
        return int(sum(float(line.split()[-1]) for line in series))

    def refused(self, reason):
        return self.metric("hookgate_requests_total", f'reason="{reason}"')

    def peak(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def signed(body):
    tag = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={tag}"}


def head(length, tag="0" * 64):
    return (f"POST /webhooks HTTP/1.1\r\nHost: hooks.example\r\nX-Hub-Signature-256: sha256={tag}\r\n"
            f"Content-Length: {length}\r\n\r\n").encode()


# Slow connections


def slow(args, upstream):
    print(f"| slow connections | held | good requests | p50 ms | p99 ms | worst ms |\n{'| --: ' * 6}|")
    for count in (0, args.slow):
        with Gate(args, upstream) as gate:
            dribblers = multiprocessing.Process(target=dribble, args=(gate.port, count), daemon=True)
            dribblers.start()
            for _ in range(600):
                if gate.metric("hookgate_connections") >= count:
                    break
                time.sleep(0.1)
            held, samples = deliver(gate, args.seconds)
            dribblers.terminate()
            dribblers.join()
            percentile = statistics.quantiles(samples, n=100)
            print(f"| {count} | {min(held)} to {max(held)} | {len(samples)} | {percentile[49]:.2f} | {percentile[98]:.2f} "
                  f"| {max(samples):.1f} |", flush=True)


def deliver(gate, seconds):
    """Signed events, one after the other, a hundred a second at most. Gives how many other
    connections there were meanwhile, and how long each answer took."""
    connection = http.client.HTTPConnection("127.0.0.1", gate.port)
    samples, held = [], []
    end = time.monotonic() + seconds
    while (started := time.monotonic()) < end:
        body = json.dumps({"n": len(samples), "text": "x" * 1000}).encode()
        connection.request("POST", "/webhooks", body, signed(body))
        answer = connection.getresponse()
        if (answer.status, answer.read()) != (200, b"ok"):
            sys.exit(f"a good request was answered {answer.status}")
        samples.append((time.monotonic() - started) * 1000)
        if len(samples) % 100 == 0:
            held.append(gate.metric("hookgate_connections") - 1)
        time.sleep(max(0.0, started + 0.01 - time.monotonic()))
    return held, samples


def dribble(port, count):
    async def one(number):
        await asyncio.sleep(number / count * 2)
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                if number % 2:
                    writer.write(head(1000))
                for byte in head(1000):
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1)
                    if reader.at_eof():
                        break
                writer.close()

    async def run():
        await asyncio.gather(*(one(number) for number in range(count)))

    if count:
        asyncio.run(run())


# Memory


def memory(args, upstream):
    print("\n| what is sent | what the gate says | peak MiB |\n| --- | --- | --: |")
    for row in (idle, connections, heads, bodies, forgeries):
        print(f"| {row.__doc__} | {row(args, upstream)} |", flush=True)


def idle(args, upstream):
    """nothing"""
    with Gate(args, upstream) as gate:
        return f"ready | {gate.peak():.0f}"


def connections(args, upstream):
    """5,000 silent connections (`--max-connections 4096`)"""
    with Gate(args, upstream) as gate, contextlib.ExitStack() as stack:
        for _ in range(5000):
            stack.enter_context(socket.create_connection(("127.0.0.1", gate.port)))
        settled(lambda: gate.refused("overloaded") == 904)
        return f"{gate.metric('hookgate_connections')} held, 904 × 503 | {gate.peak():.0f}"


def heads(args, upstream):
    """4,000 heads of 30 KiB that do not end"""
    part = b"POST /webhooks HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"x" * 30_000
    with Gate(args, upstream, header_timeout="60s") as gate, contextlib.ExitStack() as stack:
        for _ in range(4000):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", gate.port)))
            with contextlib.suppress(OSError):  # it may be refused before all is sent
                sender.sendall(part)
        settled(lambda: gate.metric("hookgate_connections") + gate.refused("overloaded") == 4000)
        return f"{gate.metric('hookgate_connections')} held, {gate.refused('overloaded')} × 503 | {gate.peak():.0f}"


def bodies(args, upstream):
    """500 bodies of 1 MiB that lack their last byte (`--max-buffered 64MiB`)"""
    with Gate(args, upstream, body_timeout="60s") as gate, contextlib.ExitStack() as stack:
        whole = head(MIB) + bytes(MIB - 1)
        for _ in range(500):
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", gate.port)))
            sender.settimeout(5)
            with contextlib.suppress(OSError):  # it may be refused before all is sent
                sender.sendall(whole)
        settled(lambda: gate.refused("overloaded") >= 436)
        held = gate.metric("hookgate_buffered_body_bytes") / MIB
        return f"{held:.0f} MiB held, {gate.refused('overloaded')} × 503 | {gate.peak():.0f}"


def forgeries(args, upstream):
    """2,000 forged bodies of 1 MiB, 32 at once"""
    with Gate(args, upstream) as gate:
        whole = head(MIB) + bytes(MIB)

        def flood():
            for _ in range(2000 // 32 + 1):
                with socket.create_connection(("127.0.0.1", gate.port)) as sender:
                    sender.sendall(whole)
                    sender.recv(1000)

        threads = [threading.Thread(target=flood) for _ in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return f"{gate.refused('signature_mismatch')} × 401 | {gate.peak():.0f}"


def settled(condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    sys.exit("the gate did not do what it should")


if __name__ == "__main__":
    main()
