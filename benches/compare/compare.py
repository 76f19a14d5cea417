#!/usr/bin/env python3
"""What the gate costs, beside peers that do the same checks, on this machine.

    cargo build --profile dist --bins --examples
    benches/compare/compare.py              # the table
    benches/compare/compare.py --forged     # refusing a forgery against accepting an event
    benches/compare/compare.py --syscalls   # system calls for each request
    benches/compare/rows.py                 # other connections, bodies, threads; latency; memory

Method. Everything runs on loopback. Each proxy has one thread on the first core; the
application (nginx, a constant answer) and the load (wrk) share the second. A request is a
signed JSON event of 1 KiB with an id of its own, made just before its round, so that it is
fresh, passes every check and reaches the application; that this was so is checked from the
count of answers. hookgate runs with all checks, all metrics and its decision log, written
to a file. HAProxy and nginx check address, rate, HMAC-SHA256 over the body and duplicates
by id; they neither judge the time nor log. "pass" does no checks, "TCP" copies bytes.

CPU is what counts for a sidecar: it is user and system time of the process, from
/proc/PID/task/*/schedstat, for each answered request. A shared machine is noisy, but its noise moves
neighbours alike: every round loads all targets in turn, ratios are taken within a round,
and the medians over the rounds are shown. The first round warms up and is not counted.

Needs Python 3.9, wrk and nginx; peers that are not installed are left out, aloud.
"""

import argparse
import base64
import contextlib
import copy
import datetime
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "a-secret-of-at-least-sixteen-bytes"
ALLOWED = ["127.0.0.0/8", "52.206.68.0/24", "54.236.0.0/16"]
# More than any proxy passes on with one core, so that no event is sent twice.
REQUESTS_PER_SECOND = 120_000
BASE = "HAProxy, all checks"


class Missing(Exception):
    """A target cannot be measured here."""


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that everything is taken down
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        place = Place(pathlib.Path(directory), stack)
        if args.syscalls:
            syscalls(place, args)
        elif args.forged:
            table(compare(place, forged_targets(place, args), args))
        else:
            readiness(place, args)
            table(compare(place, targets(place, args), args))


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("hookgate", nargs="?", type=pathlib.Path, help="the binary to measure",
                        default=pathlib.Path(target) / "dist" / "hookgate")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="for each target in each round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=1024, help="of a body in bytes")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--forged", action="store_true", help="compare refusing with accepting")
    mode.add_argument("--syscalls", action="store_true", help="count system calls (needs strace)")
    args = parser.parse_args()
    for tool in ["wrk", "nginx", "taskset", args.hookgate]:
        if not shutil.which(tool):
            sys.exit(f"{tool} is needed and not there")
    if os.cpu_count() < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    return args


# The parties


class Place:
    """Where everything runs: a directory, free ports, and processes that end with it."""

    def __init__(self, directory, stack):
        self.directory = directory
        self.stack = stack
        self.secret = self.write("secret", SECRET)
        self.application = free_port()
        self.start("nginx-application.conf", self.nginx("nginx-application.conf", self.application),
                   self.application, core=1)

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        return path

    def start(self, name, command, port, core=0):
        """Starts a process on a core and waits until it listens."""
        log = open(self.directory / f"{name}.log", "ab")
        process = subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], cwd=self.directory,
                                   stdout=log, stderr=subprocess.STDOUT)
        self.stack.callback(stop, process)
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return process
            time.sleep(0.001)
        said = pathlib.Path(log.name).read_text().strip().splitlines()
        raise Missing(said[-1] if said else "it does not listen")

    def configuration(self, template, port, **values):
        values = {
            "buffer": 128 * 1024,
            "tls": "",
        } | values | {
            "port": port,
            "application": self.application,
            "secret": SECRET,
            "secret_base64": base64.b64encode(SECRET.encode()).decode(),
            "allowed": " ".join(ALLOWED),
            "allow": " ".join(f"allow {network};" for network in ALLOWED),
        }
        text = (HERE / template).read_text()
        return self.write(template, re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), text))

    def nginx(self, template, port):
        said = subprocess.run(["nginx", "-V"], capture_output=True, text=True).stderr
        modules = re.search(r"--modules-path=(\S+)", said)
        path = self.configuration(template, port, modules=modules[1] if modules else "modules")
        return ["nginx", "-p", self.directory, "-c", path]

    def haproxy(self, template, port, **values):
        return ["haproxy", "-db", "-q", "-f", self.configuration(template, port, **values)]

    def hookgate(self, binary, port, ops=None):
        return [
            binary.resolve(), "run", "--threads", "1",
            "--listen", f"127.0.0.1:{port}", "--ops-listen", f"127.0.0.1:{ops or free_port()}",
            "--upstream", f"http://127.0.0.1:{self.application}",
            "--secret-file", self.secret, "--insecure-allow-http",
            *[word for network in ALLOWED for word in ("--allow-ip", network)],
            "--rate-limit", "100000000/1m", "--replay-capacity", "4000000", "--log-format", "json",
        ]


class Target:
    """A proxy under load, and what was measured of it, one entry for each round."""

    def __init__(self, place, name, template, command, core=0):
        self.name = name
        self.kind = "genuine"
        self.scheme = "http"
        self.log = place.directory / f"{template}.log"
        self.port = free_port()
        command = command(self.port)
        if not shutil.which(command[0]):
            raise Missing(f"{command[0]} is not there")
        self.process = place.start(template, command, self.port, core)
        self.rounds = []

    def twin(self, name, kind):
        """The same process, under another kind of load."""
        other = copy.copy(self)
        other.name, other.kind, other.rounds = name, kind, []
        return other


def targets(place, args):
    passthrough = args.hookgate.with_name("examples") / "passthrough"
    return [target for target in [
        attempt(place, BASE, "haproxy-checks.cfg", lambda port: place.haproxy("haproxy-checks.cfg", port)),
        attempt(place, "hookgate", "hookgate", lambda port: place.hookgate(args.hookgate, port)),
        attempt(place, "nginx + Lua, all checks", "nginx-checks.conf",
                lambda port: place.nginx("nginx-checks.conf", port)),
        attempt(place, "Pingora, pass", "passthrough",
                lambda port: [passthrough, f"127.0.0.1:{port}", f"127.0.0.1:{place.application}"]),
        attempt(place, "HAProxy, pass", "haproxy-pass.cfg", lambda port: place.haproxy("haproxy-pass.cfg", port)),
        attempt(place, "HAProxy, TCP", "haproxy-tcp.cfg", lambda port: place.haproxy("haproxy-tcp.cfg", port)),
    ] if target]


def forged_targets(place, args):
    unlimited = ["--failure-limit", "100000000/1m"]
    gate = attempt(place, "hookgate, accepting", "hookgate",
                   lambda port: place.hookgate(args.hookgate, port) + unlimited)
    flooded = attempt(place, "hookgate, refusing a flood", "hookgate-flooded",
                      lambda port: place.hookgate(args.hookgate, port))
    peer = attempt(place, "HAProxy, accepting", "haproxy-checks.cfg",
                   lambda port: place.haproxy("haproxy-checks.cfg", port))
    if flooded:
        flooded.kind = "forged"
    found = [gate, gate and gate.twin("hookgate, refusing", "forged"), flooded,
             peer, peer and peer.twin("HAProxy, refusing", "forged")]
    return [target for target in found if target]


def attempt(place, name, template, command):
    try:
        return Target(place, name, template, command)
    except Missing as why:
        print(f"{name} is left out: {why}\n", flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def stop(process):
    process.kill()
    process.wait()


# The load


def requests(place, count, size, close=False):
    """Writes the same events twice: genuine, and with the last digit of the signature changed."""
    connection = "Connection: close\r\n" if close else ""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    run = os.urandom(8).hex()
    mac = hmac.new(SECRET.encode(), digestmod=hashlib.sha256)
    event = '{"id":"evt_%s%09d","type":"organization.directory.user_created","created":"%s","data":"%s"}'
    filling = "x" * max(0, size - len(event % (run, 0, now, "")))
    with open(place.directory / "genuine", "wb") as genuine, open(place.directory / "forged", "wb") as forged:
        for number in range(count):
            body = (event % (run, number, now, filling)).encode()
            keyed = mac.copy()
            keyed.update(body)
            tag = keyed.hexdigest()
            for file, tag in [(genuine, tag), (forged, tag[:-1] + ("0" if tag[-1] != "0" else "1"))]:
                request = (
                    "POST /webhooks HTTP/1.1\r\nHost: app.example\r\nUser-Agent: compare\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                    f"X-Scalekit-Signature: sha256={tag}\r\n{connection}\r\n"
                ).encode() + body
                file.write(struct.pack("<I", len(request)) + request)


def load(place, port, kind, args, scheme="http", delay=0):
    """Runs wrk against a port; what replay.lua prints."""
    said = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t1", f"-c{args.connections}", f"-d{args.seconds}s", "--timeout", "10s",
         "-s", HERE / "replay.lua", f"{scheme}://127.0.0.1:{port}", "--", place.directory / kind, str(delay)],
        capture_output=True, text=True, check=True).stdout
    result = json.loads(said.splitlines()[-1])
    answers, sent = result["answers"], result["answers"] + args.connections
    if kind == "genuine" and sent > args.seconds * REQUESTS_PER_SECOND:
        sys.exit("the events ran out: raise REQUESTS_PER_SECOND")
    if not answers or result["broken"] or result["refused"] != (answers if kind == "forged" else 0):
        sys.exit(f"port {port} does not answer {kind} requests as it should: {result}")
    return result


def compare(place, found, args):
    """Loads each target in turn, round by round."""
    for number in range(args.rounds + 1):
        print("warm-up" if number == 0 else f"round {number} of {args.rounds}", file=sys.stderr, flush=True)
        requests(place, args.seconds * REQUESTS_PER_SECOND, args.size)
        for target in found:
            os.truncate(target.log, 0)
            before = cpu_seconds(target.process.pid)
            result = load(place, target.port, target.kind, args)
            if number > 0:
                target.rounds.append({
                    "cpu": (cpu_seconds(target.process.pid) - before) / result["answers"] * 1e6,
                    "rate": result["answers"] / result["seconds"],
                    "p50": result["p50"],
                    "p99": result["p99"],
                    "rss": rss_mib(target.process.pid),
                })
    return found


def table(found):
    base = found[0]
    print(f"| target | CPU µs/request | ÷ {base.name} | requests/s | p50 µs | p99 µs | RSS MiB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for target in found:
        median = {key: statistics.median(entry[key] for entry in target.rounds) for key in target.rounds[0]}
        ratio = statistics.median(own["cpu"] / other["cpu"] for own, other in zip(target.rounds, base.rounds))
        print(f"| {target.name} | {median['cpu']:.1f} | {ratio:.2f} | {median['rate']:.0f} "
              f"| {median['p50']:.0f} | {median['p99']:.0f} | {median['rss']:.1f} |")


# The process


def cpu_seconds(pid):
    """User and system time of all threads, as the scheduler counts it."""
    threads = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def kernel_seconds(pid):
    """What of it was spent in the kernel; counted in ticks, so right over seconds only."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[12]) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def readiness(place, args, times=9):
    """How long until hookgate is ready, and how much memory it holds then."""
    took, held = [], []
    for _ in range(times):
        ops = free_port()
        started = time.monotonic()
        process = subprocess.Popen(map(str, place.hookgate(args.hookgate, free_port(), ops)),
                                   stdout=subprocess.DEVNULL)
        while not is_ready(ops):
            time.sleep(0.001)
        took.append(time.monotonic() - started)
        time.sleep(0.5)
        held.append(rss_mib(process.pid))
        stop(process)
    print(f"hookgate is ready after {statistics.median(took) * 1e3:.0f} ms (at most {max(took) * 1e3:.0f}) "
          f"and then holds {statistics.median(held):.1f} MiB.\n", flush=True)


def is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return answer.status == 200
    except urllib.error.URLError:
        return False


def syscalls(place, args):
    """System calls of hookgate for each accepted request, from strace.

    Under strace the gate is slow, so more events come with each epoll_wait than usual.
    """
    if not shutil.which("strace"):
        sys.exit("strace is needed and not there")
    requests(place, args.seconds * REQUESTS_PER_SECOND, args.size)
    port, out = free_port(), place.directory / "calls"
    tracer = place.start("hookgate", ["strace", "-c", "-f", "-o", out, *place.hookgate(args.hookgate, port)], port)
    answers = load(place, port, "genuine", args)["answers"]
    for child in pathlib.Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGINT)
    tracer.wait(timeout=30)
    print(f"System calls for each of {answers} accepted requests; those of the start are among them.\n")
    print("| call | for each request |\n|---|--:|")
    for line in out.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit() and int(words[3]) / answers >= 0.005:
            print(f"| {words[-1]} | {int(words[3]) / answers:.2f} |")


if __name__ == "__main__":
    main()
