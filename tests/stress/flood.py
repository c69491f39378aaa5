# SPDX-License-Identifier: LGPL-2.1-or-later
"""D-Bus over a raw socket: no library between the clock and the daemon, and nothing that waits.

Run as a program it is one of two users, each on the socket PATH:
  loud PATH CONNECTIONS WINDOW  asks without end, each connection with so many requests under way.
                                Ends when its stdin does, and says how many it made.
  quiet PATH CALLS              see quiet().
"""

import os
import select
import socket
import struct
import sys
import time

from gi.repository import Gio, GLib

NAME, PATH = "org.styxy.Ports", "/org/styxy/Ports"


def blob(method, arguments, name=NAME, path=PATH, interface=NAME):
    message = Gio.DBusMessage.new_method_call(name, path, interface, method)
    message.set_serial(1)
    if arguments is not None:
        message.set_body(arguments)
    return bytearray(message.to_blob(Gio.DBusCapabilityFlags.NONE))


class Raw:
    """A connection that is through its handshake and has said Hello."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.serial = 0
        self.buffer = bytearray()
        uid = str(os.getuid()).encode().hex().encode()
        self.socket.sendall(b"\0AUTH EXTERNAL " + uid + b"\r\n")
        assert self.socket.recv(200).startswith(b"OK")
        self.socket.sendall(b"BEGIN\r\n")
        bus = "org.freedesktop.DBus"
        self.call(blob("Hello", None, bus, "/org/freedesktop/DBus", bus))

    def send(self, message):
        self.serial += 1
        struct.pack_into("<I", message, 8, self.serial)
        self.socket.sendall(message)
        return self.serial

    def take(self):
        """A whole message from the buffer, or None."""
        if len(self.buffer) < 16:
            return None
        body, fields = struct.unpack_from("<I", self.buffer, 4)[0], struct.unpack_from(
            "<I", self.buffer, 12)[0]
        size = 16 + (fields + 7 & ~7) + body
        if len(self.buffer) < size:
            return None
        message = bytes(self.buffer[:size])
        del self.buffer[:size]
        return message

    def receive(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the daemon has closed the connection")
        self.buffer += data

    def call(self, message):
        """Sends a call and waits for its answer, which is returned as it came."""
        serial = self.send(message)
        while True:
            answer = self.take()
            if answer is None:
                self.receive()
            elif answer[1] != 4 and Gio.DBusMessage.new_from_blob(
                    answer, Gio.DBusCapabilityFlags.NONE).get_reply_serial() == serial:
                return answer

    def close(self):
        self.socket.close()


def values(answer):
    message = Gio.DBusMessage.new_from_blob(answer, Gio.DBusCapabilityFlags.NONE)
    message.to_gerror()  # raises where it is an error
    body = message.get_body()
    return body.unpack() if body else ()


def allocate_blob(service_type):
    return blob("Allocate", GLib.Variant("(sa{sv})", (service_type, {})))


def quiet(path, calls):
    """p99 of so many Allocates, each released again, in µs, and the median."""
    raw = Raw(path)
    ask, times = allocate_blob("quiet"), []
    for _ in range(calls):
        began = time.monotonic_ns()
        answer = raw.call(ask)
        times.append((time.monotonic_ns() - began) / 1000)
        lease = values(answer)[1]
        values(raw.call(blob("Release", GLib.Variant("(s)", (lease,)))))
    raw.close()
    times.sort()
    return times[len(times) * 99 // 100], times[len(times) // 2]


def loud(path, connections, window):
    raws = {}
    message = allocate_blob("greedy")
    for _ in range(connections):
        raw = Raw(path)
        raws[raw.socket.fileno()] = raw
        raw.under_way = 0
    print("ready", flush=True)
    made, kinds = 0, [0] * 5
    poll = select.poll()
    poll.register(0, select.POLLIN | select.POLLHUP)
    for fd in raws:
        poll.register(fd, select.POLLIN)
    while True:
        for raw in raws.values():
            if raw.under_way > window // 2:
                continue
            many = bytearray()
            while raw.under_way < window:
                raw.serial += 1
                struct.pack_into("<I", message, 8, raw.serial)
                many += message
                raw.under_way += 1
                made += 1
            raw.socket.sendall(many)
        for fd, _ in poll.poll():
            if fd == 0:
                print(made, kinds[2], kinds[3], flush=True)
                return
            raw = raws[fd]
            raw.receive()
            while (answer := raw.take()) is not None:
                kinds[answer[1]] += 1
                raw.under_way -= answer[1] in (2, 3)


if __name__ == "__main__":
    role, path, *numbers = sys.argv[1:]
    if role == "loud":
        loud(path, *map(int, numbers))
    else:
        print(*quiet(path, *map(int, numbers)))
