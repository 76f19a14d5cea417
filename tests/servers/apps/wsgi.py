# Tells what a WSGI server made of a request. The path is resolved as file systems and routers do.
import posixpath


def app(environ, start):
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    parts = posixpath.normpath(environ["PATH_INFO"]).split("/")
    handler = parts[1] if len(parts) > 2 or environ["PATH_INFO"].endswith("/") else "other"
    seen = sorted((name, value) for name, value in environ.items() if isinstance(value, str))
    lines = [f"handler={handler}"] + [f"{name}={value!r}" for name, value in seen]
    answer = "\n".join(lines).encode("utf-8", "backslashreplace")
    start("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
