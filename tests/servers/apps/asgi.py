# Tells what an ASGI server made of a request.
import posixpath


async def app(scope, receive, send):
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    parts = posixpath.normpath(scope["path"]).split("/")
    handler = parts[1] if len(parts) > 2 or scope["path"].endswith("/") else "other"
    lines = [f"handler={handler}"]
    for name in ("method", "scheme", "path", "raw_path", "root_path", "query_string"):
        lines.append(f"{name}={scope[name]!r}")
    lines.append(f"client={scope['client'][0]}")
    lines += sorted(f"{name.decode('latin1')}={value!r}" for name, value in scope["headers"])
    answer = "\n".join(lines).encode("utf-8", "backslashreplace")
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
