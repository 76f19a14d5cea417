#!/usr/bin/env python3
"""What the gate costs beside HAProxy with the same checks, where it matters how senders come.

    cargo build --profile dist
    benches/compare/rows.py [BINARY] [--only TEXT...]

compare.py says how it is measured; here each line is a pair that is loaded in turn, round by round.
CPU is user and system time for each answered request, and the ratio that of the medians' pairs.

- "refused": forgeries, in the place of the gate, beside accepted events of the same process.
- "new connections": each request on a connection of its own, which the sender asks to close. Over TLS
  the load resumes its sessions, as clients do: that this is so is checked.
- "bodies": of 64 KiB and of 1 MB. Beside them what the same bytes take through HAProxy that only copies
  them, and OpenSSL's HMAC of them.
- "threads": the gate with two in its place, and with one in that of HAProxy. Load and application use one
  of the two cores, so what is shown is the CPU of a request, not how many there are.
- "an inbox": the gate with one that stores what the application fails on, which it does not, and in the place of
  HAProxy the gate that has its state in a folder and stores nothing.
- "latency": at about half the load that saturates HAProxy, beyond that of the application alone.
- "memory": of connections that have delivered once and wait.

A machine that others use moves latency more than CPU: see the load that is shown.
"""

import argparse
import hashlib
import hmac
import os
import pathlib
import resource
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import contextlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare
from compare import Missing, Place, Target, cpu_seconds, free_port, kernel_seconds, load, requests, rss_mib

IDLE = 2000
# No pair here answers more, and the load keeps all of them in memory.
compare.REQUESTS_PER_SECOND = 60_000
UNLIMITED = ["--failure-limit", "100000000/1m"]


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    os.sched_setaffinity(0, {1})  # with the load: the gate has the other core
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        place = Place(pathlib.Path(directory), stack)
        certificate(place)
        print(f"load of the machine: {os.getloadavg()[0]:.1f} before")
        print("\n| row | gate µs (in the kernel) | HAProxy µs (the same) | ÷ | gate p50/p99 µs | HAProxy p50/p99 µs |\n|---|--:|--:|--:|--:|--:|")
        for name, row in rows(place, args):
            if any(word in name for word in args.only):
                row(name)
        print(f"\nload of the machine: {os.getloadavg()[0]:.1f} after")


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", compare.HERE.parent.parent / "target")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("hookgate", nargs="?", type=pathlib.Path, help="the binary to measure",
                        default=pathlib.Path(target) / "dist" / "hookgate")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="for each target in each round")
    parser.add_argument("--only", nargs="*", default=[""], help="rows with one of these in their name")
    return parser.parse_args()


def rows(place, args):
    def pair(name, **how):
        compared(place, args, name, targets(place, args, **how), **how)

    yield "accepted, 32 connections", pair
    yield "refused ÷ accepted, of the gate", lambda name: refused(place, args, name, gate(place, args, UNLIMITED))
    yield "refused ÷ accepted, of HAProxy", lambda name: refused(place, args, name, haproxy(place))
    yield "new connections", lambda name: pair(name, close=True)
    yield "512 connections", lambda name: pair(name, connections=512)
    yield "TLS, kept alive", lambda name: pair(name, tls=True)
    yield "TLS, new connections, sessions resumed", lambda name: pair(name, tls=True, close=True)
    yield "bodies of 64 KiB", lambda name: bodies(place, args, name, 64 * 1024)
    yield "bodies of 1 MB", lambda name: bodies(place, args, name, 1_000_000)
    yield "threads: two ÷ one, CPU of a request", lambda name: threads(place, args, name)
    yield "an inbox for what fails ÷ none", lambda name: inbox(place, args, name)
    yield "memory", lambda name: memory(place, args)
    yield "latency added at half load", lambda name: latency(place, args, name)


# The parties


def gate(place, args, more=(), tls=False, threads=1, core=0):
    def command(port):
        words = [str(word) for word in place.hookgate(args.hookgate, port)]
        words[words.index("--threads") + 1] = str(threads)
        if tls:
            words[words.index("--listen") + 1] = f"127.0.0.1:{free_port()}"
            words += ["--listen-tls", f"127.0.0.1:{port}", "--tls-cert-file", place.directory / "cert.pem",
                      "--tls-key-file", place.directory / "key.pem"]
        return words + ["--max-connections-per-address", "4096", *more]

    return started(Target(place, "gate", f"gate-{free_port()}", command, core), tls)


def haproxy(place, template="haproxy-checks.cfg", tls=False, **values):
    if tls:
        values["tls"] = f" ssl crt {place.directory / 'both.pem'}"
    return started(Target(place, "HAProxy", template, lambda port: place.haproxy(template, port, **values)), tls)


def started(target, tls):
    target.scheme = "https" if tls else "http"
    return target


def targets(place, args, tls=False, **_):
    return [gate(place, args, tls=tls), haproxy(place, tls=tls)]


def certificate(place):
    subprocess.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
                   "-subj /CN=localhost -keyout key.pem -out cert.pem && cat cert.pem key.pem > both.pem",
                   shell=True, check=True, cwd=place.directory, stderr=subprocess.DEVNULL)


# The rows


def compared(place, args, name, found, connections=32, size=1024, close=False, tls=False, delay=0, count=None):
    """Loads each in turn and prints what came of it; the medians."""
    how = argparse.Namespace(connections=connections, seconds=args.seconds)
    if tls and close:
        for target in found:
            check_resumption(target)
    measured = [[] for _ in found]
    for number in range(args.rounds + 1):
        requests(place, count or args.seconds * compare.REQUESTS_PER_SECOND, size, close)
        for target, of in zip(found, measured):
            os.truncate(target.log, 0)
            before = spent(target)
            result = load(place, target.port, target.kind, how, target.scheme, delay)
            cpu, kernel = [(now - then) / result["answers"] * 1e6 for now, then in zip(spent(target), before)]
            if number > 0:
                of.append((cpu, result["p50"], result["p99"], kernel))
    (ours, theirs), ratio = [middle(of) for of in measured[:2]], ratios(measured[0], measured[1])
    print(f"| {name} | {ours[0]:.1f} ({ours[3]:.1f}) | {theirs[0]:.1f} ({theirs[3]:.1f}) | {ratio:.2f} "
          f"| {ours[1]:.0f} / {ours[2]:.0f} | {theirs[1]:.0f} / {theirs[2]:.0f} |", flush=True)
    for target in found:
        compare.stop(target.process)
    return measured


def spent(target):
    """Seconds of CPU, and those of them in the kernel."""
    return cpu_seconds(target.process.pid), kernel_seconds(target.process.pid)


def middle(entries):
    return [statistics.median(column) for column in zip(*entries)]


def ratios(some, others):
    return statistics.median(one[0] / other[0] for one, other in zip(some, others))


def refused(place, args, name, target):
    compared(place, args, name, [target.twin("refusing", "forged"), target])


def bodies(place, args, name, size):
    """As many events as fit into memory; each is sent once."""
    count = 400_000_000 // size
    tcp = haproxy(place, "haproxy-tcp.cfg")
    found = [gate(place, args), haproxy(place, buffer=2 * size + 65536), tcp]
    measured = [[] for _ in found]
    for number in range(args.rounds + 1):
        requests(place, count, size)
        for target, of in zip(found, measured):
            before = cpu_seconds(target.process.pid)
            send_once(place, target.port, size, count)
            if number > 0:
                of.append(((cpu_seconds(target.process.pid) - before) / count * 1e6,))
    ours, theirs, copied = [middle(of)[0] for of in measured]
    alone = hmac_alone(size)
    print(f"| {name} (the HMAC alone {alone:.0f}, HAProxy as TCP proxy {copied:.0f}) | {ours:.0f} | {theirs:.0f} "
          f"| {ratios(measured[0], measured[1]):.2f} | | |", flush=True)
    for target in found:
        compare.stop(target.process)


def send_once(place, port, size, count):
    """Each request of the file, one after the other on one connection: wrk would begin anew."""
    with open(place.directory / "genuine", "rb") as file, socket.create_connection(("127.0.0.1", port)) as sender:
        for _ in range(count):
            sender.sendall(file.read(int.from_bytes(file.read(4), "little")))
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += sender.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200") or not answer.endswith(b"ok"):
                sys.exit(f"port {port}, {size} bytes: {answer[:200]}")


def hmac_alone(size):
    """Microseconds; OpenSSL's, with the instructions that the CPU has for it."""
    body, begun = bytes(size), time.process_time()
    for _ in range(300):
        hmac.digest(b"a-secret-of-at-least-sixteen-bytes", body, hashlib.sha256)
    return (time.process_time() - begun) / 300 * 1e6


def threads(place, args, name):
    compared(place, args, name, [gate(place, args, threads=2, core="0,1"), gate(place, args)])


def inbox(place, args, name):
    def gate_with(when):
        state = place.directory / when
        state.mkdir(mode=0o700)
        return gate(place, args, ["--inbox", when, "--state-dir", state])

    compared(place, args, name, [gate_with("failure"), gate_with("off")])


def latency(place, args, name):
    """32 connections that wait two milliseconds between requests: some 13 thousand requests a second."""
    direct = argparse.Namespace(connections=32, seconds=args.seconds)
    requests(place, args.seconds * compare.REQUESTS_PER_SECOND, 1024)
    alone = load(place, place.application, "genuine", direct, delay=2)
    measured = compared(place, args, f"{name} (alone {alone['p50']:.0f} / {alone['p99']:.0f})",
                        targets(place, args), delay=2)
    ours, theirs = [middle(of) for of in measured]
    print(f"| … added ÷ HAProxy's: p50 {(ours[1] - alone['p50']) / (theirs[1] - alone['p50']):.2f}, "
          f"p99 {(ours[2] - alone['p99']) / (theirs[2] - alone['p99']):.2f} | | | | | |")


def memory(place, args):
    """Resident bytes of each connection that has delivered once and waits."""
    for tls in [False, True]:
        target = gate(place, args, tls=tls, more=["--idle-timeout", "10m"])
        requests(place, 2 * IDLE + 100, 1024)
        with open(place.directory / "genuine", "rb") as file:
            def deliver(times):
                held = []
                for _ in range(times):
                    held.append(connection(target))
                    held[-1].sendall(file.read(int.from_bytes(file.read(4), "little")))
                    held[-1].recv(65536)
                return held

            warm = deliver(100)
            time.sleep(1)
            before = rss_mib(target.process.pid)
            held = deliver(IDLE)
            time.sleep(1)
            each = (rss_mib(target.process.pid) - before) * 1024 / IDLE
        print(f"| memory of an idle connection{', TLS' if tls else ''}: {each:.1f} KiB | | | | | |", flush=True)
        for one in warm + held:
            one.close()
        compare.stop(target.process)


def connection(target, session=None):
    plain = socket.create_connection(("127.0.0.1", target.port))
    if target.scheme == "http":
        return plain
    return trusting().wrap_socket(plain, session=session)


CONTEXT = []


def trusting():
    if not CONTEXT:
        CONTEXT.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        CONTEXT[0].check_hostname, CONTEXT[0].verify_mode = False, ssl.CERT_NONE
    return CONTEXT[0]


def check_resumption(target):
    first = connection(target)
    first.sendall(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
    first.recv(65536)  # the tickets came before
    second = connection(target, first.session)
    if not second.session_reused:
        sys.exit(f"{target.name} resumes no session")


if __name__ == "__main__":
    try:
        main()
    except Missing as why:
        sys.exit(str(why))
