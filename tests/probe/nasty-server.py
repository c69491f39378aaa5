#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A web server of every kind of bad manners, for the health checks.

Listens on free ports of the loopback, prints them on one line:

    <IPv4> <IPv6 or 0> <TLS or 0>

and serves until its standard input ends. The path of a request says how to behave.
"""

import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

trapped = 0  # connections to the port that redirects point to


def listen(family, host):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.bind((host, 0))
    server.listen(512)
    return server


trap = listen(socket.AF_INET, "127.0.0.1")


def answer(conn, status="200 OK", headers=(), body=b"fine\n"):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    conn.sendall("\r\n".join(lines).encode() + body)


def forever(conn, piece, pause=0.0):
    while True:
        conn.sendall(piece)
        if pause:
            time.sleep(pause)


def behave(conn, path, seen):
    port = conn.getsockname()[1]
    if path == "/ok":
        answer(conn)
    elif path == "/empty":
        conn.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
    elif path == "/old":
        conn.sendall(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
    elif path.startswith("/status/"):
        answer(conn, path.rsplit("/", 1)[1] + " Whatever")
    elif path == "/hang":
        conn.recv(1)
    elif path == "/reset":
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif path == "/close":
        pass
    elif path == "/cut":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
    elif path == "/cut-chunks":
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nshort")
    elif path == "/garbage":
        conn.sendall(bytes(range(256)) * 40)
    elif path == "/headers":
        conn.sendall(b"HTTP/1.1 200 OK\r\n")
        forever(conn, b"X-Endless: " + b"x" * 1000 + b"\r\n")
    elif path == "/header":
        conn.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
        forever(conn, b"x" * 4096)
    elif path == "/status-line":
        conn.sendall(b"HTTP/1.1 200 ")
        forever(conn, b"x" * 4096)
    elif path == "/informational":
        forever(conn, b"HTTP/1.1 102 Processing\r\n\r\n" * 10)
    elif path == "/informational-once":
        conn.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        answer(conn)
    elif path == "/gigabyte":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(1024):
            conn.sendall(bytes(1 << 20))
    elif path == "/chunks":
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        forever(conn, b"1000\r\n" + b"x" * 4096 + b"\r\n")
    elif path == "/chunk-size":
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        forever(conn, b"0" * 4096)
    elif path == "/drip-headers":
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10000:
            conn.sendall(bytes([byte]))
            time.sleep(0.02)
    elif path == "/drip-body":
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        forever(conn, b"x", 0.02)
    elif path.startswith("/redirect/"):
        left = int(path.rsplit("/", 1)[1])
        target = "/ok" if left == 0 else f"/redirect/{left - 1}"
        answer(conn, "302 Found", [f"Location: {target}"])
    elif path == "/redirect-slow":
        answer(conn, "302 Found", ["Location: /redirect-slow-2"])
    elif path == "/redirect-slow-2":
        conn.recv(1)
    elif path == "/redirect-same":
        answer(conn, "307 Temporary Redirect", [f"Location: http://127.0.0.1:{port}/ok"])
    elif path == "/redirect-port":
        answer(conn, "302 Found", [f"Location: http://127.0.0.1:{trap.getsockname()[1]}/ok"])
    elif path == "/redirect-host":
        answer(conn, "302 Found", [f"Location: http://127.0.0.2:{port}/ok"])
    elif path == "/redirect-name":
        answer(conn, "301 Moved", ["Location: http://example.org/"])
    elif path == "/redirect-scheme":
        answer(conn, "302 Found", [f"Location: https://127.0.0.1:{port}/ok"])
    elif path == "/redirect-file":
        answer(conn, "302 Found", ["Location: file:///etc/passwd"])
    elif path == "/redirect-nonsense":
        answer(conn, "302 Found", ["Location: http://[::1"])
    elif path == "/auth":
        answer(conn, "401 Unauthorized", ['WWW-Authenticate: Basic realm="x"'])
    elif path == "/cookie":
        answer(conn, "302 Found", ["Location: /cookie-2", "Set-Cookie: a=b; Path=/"])
    elif path == "/cookie-2":
        answer(conn, "500 Cookie" if b"cookie:" in seen.lower() else "200 OK")
    elif path == "/closing":
        answer(conn, "200 OK" if b"connection: close" in seen.lower() else "500 Kept")
    elif path == "/gzip":
        answer(conn, "200 OK", ["Content-Encoding: gzip"], b"this is not gzip")
    elif path == "/trapped":
        answer(conn, "500 Trapped" if trapped else "200 OK")
    else:
        answer(conn, "404 Not Found")


def serve_one(conn, context):
    try:
        with conn:
            if context:
                conn = context.wrap_socket(conn, server_side=True)
            seen = b""
            while b"\r\n\r\n" not in seen:
                piece = conn.recv(4096)
                if not piece:
                    return
                seen += piece
            behave(conn, seen.split(b" ")[1].decode(), seen)
            conn.close()
    except OSError:
        pass


def serve(server, context=None):
    while True:
        conn, _ = server.accept()
        threading.Thread(target=serve_one, args=(conn, context), daemon=True).start()


def watch_trap():
    global trapped
    while True:
        trap.accept()
        trapped += 1


def make_tls():
    if not shutil.which("openssl"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        key, cert = os.path.join(folder, "key"), os.path.join(folder, "cert")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody",
             "-keyout", key, "-out", cert],
            check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
    return context


def main():
    threading.stack_size(256 * 1024)
    v4 = listen(socket.AF_INET, "127.0.0.1")
    threading.Thread(target=serve, args=(v4,), daemon=True).start()
    threading.Thread(target=watch_trap, daemon=True).start()
    ports = [v4.getsockname()[1], 0, 0]
    try:
        v6 = listen(socket.AF_INET6, "::1")
        threading.Thread(target=serve, args=(v6,), daemon=True).start()
        ports[1] = v6.getsockname()[1]
    except OSError:
        pass
    context = make_tls()
    if context:
        tls = listen(socket.AF_INET, "127.0.0.1")
        threading.Thread(target=serve, args=(tls, context), daemon=True).start()
        ports[2] = tls.getsockname()[1]
    print(*ports, flush=True)
    sys.stdin.read()


main()
