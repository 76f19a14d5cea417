#!/usr/bin/env python3
"""Draws k8s/dashboard.svg, the dashboard's picture in k8s/README.md, from what happened: a gate before
an application, some minutes of mixed traffic, a Prometheus that scrapes it, and the dashboard's own
queries. Needs prometheus and openssl; the gate is target/release/hookgate, or the argument."""

import hashlib
import hmac
import http.client
import http.server
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from html import escape
from pathlib import Path

HERE = Path(__file__).resolve().parent
SECONDS = int(os.environ.get("SECONDS_OF_TRAFFIC", "300"))
RATE = "15s"  # $__rate_interval: it is scraped every second
STEP = 3
SECRETS = {"2026-05": b"a secret of sixteen bytes and more", "2026-11": b"the one that comes after it, as long"}

CONFIG = """
listen: ["127.0.0.1:{gate}"]
listen_tls: ["127.0.0.1:{tls}"]
tls_cert_file: {dir}/tls.crt
tls_key_file: {dir}/tls.key
ops_listen: "127.0.0.1:{ops}"
upstream: "http://127.0.0.1:{app}"
upstream_timeout: 2s
trusted_proxies: ["127.0.0.1/32"]
replay: {{ capacity: 20000 }}
routes:
  - {{ name: github, path: /github, provider: github, rate_limit: 600/1m, secrets: [{{ file: {dir}/2026-11 }}, {{ file: {dir}/2026-05 }}] }}
  - {{ name: stripe, path: /stripe, provider: stripe, rate_limit: 600/1m, secrets: [{{ file: {dir}/2026-11 }}] }}
  - name: partner
    path: /partner
    mode: observe
    scheme:
      algorithm: hmac-sha256
      signature: {{ from: "header:X-Signature", encoding: hex }}
      content: "{{header:X-Time}}.{{body}}"
      timestamp: {{ from: "header:X-Time", unit: s, tolerance: 5m }}
      id: "json:/id"
    secrets: [{{ file: {dir}/2026-11 }}]
"""


class Application(http.server.BaseHTTPRequestHandler):
    """Takes its time, fails now and then, and has a bad half minute."""

    protocol_version = "HTTP/1.1"
    part = 0.0  # how much of the time has gone

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        ill = 0.62 < Application.part < 0.72
        time.sleep(min(random.lognormvariate(-3.4, 0.6) * (4 if ill else 1), 1.5))
        self.send_response(503 if random.random() < (0.4 if ill else 0.004) else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def signed(route, key, body, age=0.0):
    """The headers with which the provider of that route sends a body."""
    tag = lambda content: hmac.new(SECRETS[key], content, hashlib.sha256).hexdigest()
    when = str(int(time.time() - age))
    stamped = f"{when}.".encode() + body
    return {
        "github": lambda: {"X-Hub-Signature-256": "sha256=" + tag(body), "X-GitHub-Event": "push"},
        "stripe": lambda: {"Stripe-Signature": f"t={when},v1={tag(stamped)}"},
        "partner": lambda: {"X-Time": when, "X-Signature": tag(stamped)},
    }[route]()


def sender(port, started, number):
    """One of several providers' machines."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    last = None
    while (part := (time.monotonic() - started) / SECONDS) < 1:
        Application.part = part
        busy = 1 + 0.6 * math.sin(part * 9) + 0.3 * math.sin(part * 31)
        time.sleep(random.expovariate(4 * busy))
        route = random.choices(["github", "stripe", "partner"], [5, 3, 1])[0]
        # The rotation is half done in the middle; new secrets are not mixed up again.
        key = "2026-05" if route == "github" and random.random() > (part - 0.3) * 3 else "2026-11"
        body = json.dumps({"id": f"evt_{random.getrandbits(64):x}", "type": "push", "data": "x" * random.randrange(2000)}).encode()
        late = random.random()
        age = random.expovariate(1 / 3) if late > 0.02 else random.uniform(30, 600)
        headers = signed(route, key, body, age)
        headers |= {"X-Forwarded-Proto": "https", "X-Forwarded-For": f"192.0.2.{number}"}
        kind = random.random()
        if kind < 0.04 and last:
            route, body, headers = last  # the provider repeats itself
        elif kind < 0.055 or (0.4 < part < 0.5 and kind < 0.45):
            body += b" "  # changed on the way; and for a while, by somebody who tries
        elif kind < 0.07:
            headers.pop("X-Hub-Signature-256", None)
            headers.pop("Stripe-Signature", None)
        elif kind < 0.08:
            route = "admin.php"
        elif kind < 0.085:
            headers["X-Forwarded-Proto"] = "http"
        else:
            last = route, body, headers
        flood = 0.8 < part < 0.88 and number == 1
        if flood:
            route = "github"
            headers.pop("X-Hub-Signature-256", None)
        for _ in range(8 if flood else 1):
            try:
                connection.request("POST", f"/{route}", body, headers)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def traffic(hookgate, directory):
    """Plays it all; gives Prometheus's address, still running, and what to stop."""
    app = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    app.daemon_threads = True
    threading.Thread(target=app.serve_forever, daemon=True).start()
    ports = {"gate": free_port(), "tls": free_port(), "ops": free_port(), "app": app.server_port}
    for name, secret in SECRETS.items():
        (directory / name).write_bytes(secret)
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 61 -subj /CN=hooks -keyout tls.key -out tls.crt"
    subprocess.run(request.split(), cwd=directory, check=True, capture_output=True)
    (directory / "hookgate.yaml").write_text(CONFIG.format(dir=directory, **ports))
    (directory / "prometheus.yaml").write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "hookgate", "static_configs": [{"targets": [f"127.0.0.1:{ports['ops']}"], "labels": {"instance": "webhooks-7d4f"}}]}],
    }))
    address = f"127.0.0.1:{free_port()}"
    gate = subprocess.Popen([hookgate, f"--config={directory}/hookgate.yaml"], stdout=subprocess.DEVNULL)
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={directory}/prometheus.yaml", f"--storage.tsdb.path={directory}/data",
         f"--web.listen-address={address}", "--log.level=error"])
    time.sleep(RATE_SECONDS + 5)  # the first rates
    started = time.monotonic()
    senders = [threading.Thread(target=sender, args=(ports["gate"], started, n)) for n in range(1, 9)]
    for thread in senders:
        thread.start()
    time.sleep(SECONDS * 0.3)
    gate.send_signal(signal.SIGHUP)
    for thread in senders:
        thread.join()
    return address, [prometheus, gate]


RATE_SECONDS = int(RATE.rstrip("s"))


def ask(address, query):
    for variable, value in {"$__rate_interval": RATE, "$job": ".+", "$instance": ".+", "$route": ".+"}.items():
        query = query.replace(variable, value)
    now = int(time.time())
    form = urllib.parse.urlencode({"query": query, "start": now - SECONDS, "end": now, "step": STEP})
    with urllib.request.urlopen(f"http://{address}/api/v1/query_range?{form}") as answer:
        series = json.load(answer)["data"]["result"]
    number = lambda text: float(text) if math.isfinite(float(text)) else None
    return [(one["metric"], [(at - now + SECONDS, number(value)) for at, value in one["values"]]) for one in series]


# Drawing. One unit of the grid is 50 by 26 pixels.

COLOURS = ["#3274d9", "#e0752d", "#56a64b", "#a352cc", "#d0a215", "#1f9e9e", "#c4314b", "#8a6d3b", "#5c6bc0", "#7a8b99"]
NAMED = {"accepted": "#56a64b", "refused": "#e0752d", "failed": "#c4314b", "observed": "#3274d9",
         "2xx": "#56a64b", "5xx": "#c4314b", "timeout": "#a352cc", "capacity": "#b8bfc6"}
UNITS = {"s": [(86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")],
         "bytes": [(2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")]}


def shown(value, unit):
    if value is None:
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit in UNITS:
        for size, name in UNITS[unit]:
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0 B" if unit == "bytes" else "0 s"
    plain = f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.3g}"
    return plain + (" /s" if unit == "reqps" else "")


def text(x, y, content, size=11, colour="#464c54", anchor="start", weight=400):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(content)}</text>')


def name_of(target, labels):
    name = target["legendFormat"]
    for label, value in labels.items():
        name = name.replace("{{" + label + "}}", value)
    return name


def threshold(panel, value):
    colour = "#24292e"
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", []):
        if value is not None and (step["value"] is None or value >= step["value"]):
            colour = {"green": "#3b8132", "orange": "#c15c17", "red": "#c4314b"}.get(step["color"], "#24292e")
    return colour


def stat(panel, series, x, y, w, h):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    out, last = [], [(name, points[-1][1]) for name, points in series]
    for n, (name, value) in enumerate(last):
        middle = x + w * (n + 0.5) / len(last)
        size = 25 if len(last) == 1 else 14
        out.append(text(middle, y + h / 2 + 14, shown(value, unit), size, threshold(panel, value), "middle", 600))
        if len(last) > 1:
            out.append(text(middle, y + h - 12, name, 10, "#6e767f", "middle"))
    return out


def heatmap(series, x, y, w, h):
    bounds = sorted({float(labels["le"]) for labels, _ in series})
    counts = {(float(labels["le"]), at): value for labels, points in series for at, value in points}
    times = sorted({at for _, at in counts})
    out, cells = [], {}
    for at in times:
        below = 0.0
        for n, bound in enumerate(bounds):
            count = counts.get((bound, at)) or 0.0
            cells[n, at] = max(count - below, 0.0)
            below = count
    most = max(cells.values(), default=1) or 1
    left, top, width, height = x + 54, y + 30, w - 66, h - 42
    for (n, at), count in cells.items():
        if count > 0.05 and at + STEP <= SECONDS:
            out.append(f'<rect x="{left + at / SECONDS * width:.1f}" y="{top + height * (1 - (n + 1) / len(bounds)):.1f}" '
                       f'width="{width * STEP / SECONDS + 0.2:.1f}" height="{height / len(bounds) - 0.6:.1f}" '
                       f'fill="#1f60c4" fill-opacity="{0.12 + 0.88 * (count / most) ** 0.5:.2f}"/>')
    for n in range(0, len(bounds), 3):
        label = "more" if math.isinf(bounds[n]) else "≤ " + shown(bounds[n], "s")
        out.append(text(left - 5, top + height * (1 - (n + 0.5) / len(bounds)) + 3, label, 9, "#6e767f", "end"))
    return out


def ceiling(most, unit):
    """The round number at the top of an axis."""
    if unit == "bytes":
        scale, steps = 2 ** (int(math.log2(most)) // 10 * 10), (1, 2, 4, 8, 10, 16, 20, 32, 40, 64, 128, 256, 512, 1024)
    elif unit == "s" and most > 60:
        scale, steps = (60 if most <= 3600 else 3600), (1, 2, 4, 6, 10, 20, 30, 60, 120, 240)
    else:
        scale, steps = 10 ** math.floor(math.log10(most)), (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    return next(scale * n for n in steps if scale * n >= most * 0.999)


def legend(shapes, x, y, w):
    """One or two lines of names, and how many lines it takes."""
    out, at, line = [], 0.0, 0
    for n, (name, _, _) in enumerate(shapes):
        room = 18 + 5.5 * len(name)
        if at + room > w:
            at, line = 0.0, line + 1
        if line > 1:
            break
        colour = NAMED.get(name, COLOURS[n % len(COLOURS)])
        out.append((line, f'<rect x="{x + at:.0f}" y="{{0}}" width="8" height="8" rx="1" fill="{colour}"/>', x + at + 11, name))
        at += room
    count = 1 + max((entry[0] for entry in out), default=0)
    top = y - 14 * count
    drawn = [box.format(top + 14 * line) + text(left, top + 14 * line + 7.5, name, 9.5) for line, box, left, name in out]
    return drawn, count


def stretches(points):
    """The points without those that have no number, cut where some are missing."""
    found, last = [], None
    for point in points:
        at, value = point[0]
        if value is not None:
            if last is None or at - last > STEP:
                found.append([])
            found[-1].append(point)
            last = at
    return found


def lines(panel, series, x, y, w, h):
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    series = sorted(series, key=lambda one: -sum(v or 0 for _, v in one[1]))[:10]
    total, shapes = {}, []
    for name, points in series:
        if stacked:
            base = [(at, total.get(at, 0.0)) for at, _ in points]
            points = [(at, total.get(at, 0.0) + (value or 0)) for at, value in points]
            total.update(points)
            shapes.append((name, points, base))
        else:
            shapes.append((name, points, None))
    out, legend_lines = legend(shapes, x + 12, y + h - 4, w - 18)
    left, top, width, height = x + 50, y + 30, w - 62, h - 48 - 14 * legend_lines
    most = ceiling(max((v for _, points, _ in shapes for _, v in points if v), default=1), defaults["unit"])
    at_x = lambda at: f"{left + at / SECONDS * width:.1f}"
    at_y = lambda value: f"{top + height * (1 - value / most):.1f}"
    for part in (0, 0.5, 1):
        level = at_y(most * part)
        out.append(f'<path d="M{left} {level}h{width}" stroke="#e4e7eb"/>')
        out.append(text(left - 6, float(level) + 3, shown(most * part, defaults["unit"]), 9, "#6e767f", "end"))
    for n, (name, points, base) in enumerate(shapes):
        colour = NAMED.get(name, COLOURS[n % len(COLOURS)])
        for stretch in stretches(list(zip(points, base or points))):
            over = "L".join(f"{at_x(at)} {at_y(value)}" for (at, value), _ in stretch)
            if base:
                under = "L".join(f"{at_x(at)} {at_y(value)}" for _, (at, value) in reversed(stretch))
                out.append(f'<path d="M{over}L{under}Z" fill="{colour}" fill-opacity=".35"/>')
            out.append(f'<path d="M{over}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
    return out


def draw(dashboard, address, rows):
    out, height = [], 0
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        x, y, w, h = grid["x"] * 50 + 8, grid["y"] * 26 + 8, grid["w"] * 50 - 6, grid["h"] * 26 - 6
        if panel["type"] == "row":
            rows -= 1
            if rows < 0:
                break
            out.append(text(x + 2, y + 15, panel["title"], 13, "#24292e", weight=600))
            continue
        height = max(height, y + h)
        found = [(target, labels, points) for target in panel["targets"] for labels, points in ask(address, target["expr"])]
        named = [(name_of(target, labels), points) for target, labels, points in found]
        out.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="3" fill="#fff" stroke="#d8dde2"/>')
        out.append(text(x + 10, y + 18, panel["title"], 11.5, "#24292e", weight=500))
        if panel["type"] == "stat":
            out += stat(panel, named, x, y, w, h)
        elif panel["type"] == "heatmap":
            out += heatmap([(labels, points) for _, labels, points in found], x, y, w, h)
        else:
            out += lines(panel, named, x, y, w, h)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1210 {height + 8}" width="1210" height="{height + 8}" '
            f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
            f'<rect width="100%" height="100%" fill="#f4f5f7"/>\n' + "\n".join(out) + "\n</svg>\n")


def main():
    hookgate = sys.argv[1] if len(sys.argv) > 1 else str(HERE.parent / "target/release/hookgate")
    dashboard = json.loads((HERE / "components/monitoring/dashboard.json").read_text())
    with tempfile.TemporaryDirectory() as directory:
        address, running = traffic(hookgate, Path(directory))
        try:
            (HERE / "dashboard.svg").write_text(draw(dashboard, address, rows=int(os.environ.get("ROWS", "6"))))
        finally:
            for process in running:
                process.terminate()
                process.wait()


main()
