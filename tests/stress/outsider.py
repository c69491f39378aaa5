# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that knows nothing of Styxy and takes ports: held, churned, or whichever the kernel gives.

usage: outsider.py MODE [ARGUMENTS]
    hold KIND PORT...               holds these ports; lines on stdin: "free PORT", "hold PORT"
    churn FIRST LAST SEED LOG [LISTEN]  takes and frees ports at random until stdin ends; notes in
                                    LOG when each was surely held
Prints "ready" when it has begun. Ends when stdin ends.
"""

import array
import random
import select
import socket
import sys
import time

KINDS = {
    # family, type, address, SO_REUSEADDR, listens
    "tcp": (socket.AF_INET6, socket.SOCK_STREAM, "::", True, True),
    "tcp-plain": (socket.AF_INET6, socket.SOCK_STREAM, "::", False, True),
    "tcp-bound": (socket.AF_INET6, socket.SOCK_STREAM, "::", False, False),
    "tcp-loopback": (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", True, True),
    "tcp6-loopback": (socket.AF_INET6, socket.SOCK_STREAM, "::1", True, True),
    "tcp4": (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", True, True),
    "udp": (socket.AF_INET6, socket.SOCK_DGRAM, "::", False, False),
    "udp4": (socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", False, False),
}


def take(kind, port):
    """A socket of that kind on that port, or OSError."""
    family, type_, address, reuse, listens = KINDS[kind]
    taken = socket.socket(family, type_)
    try:
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((address, port))
        if listens:
            taken.listen(8)
    except OSError:
        taken.close()
        raise
    return taken


def hold(kind, ports):
    held = {port: take(kind, port) for port in ports}
    print("ready", flush=True)
    for line in sys.stdin:
        word, number = line.split()
        if word == "free":
            held.pop(int(number)).close()
        else:
            held[int(number)] = take(kind, int(number))
        print("done", flush=True)


def churn(first, last, seed, log, kinds, held_max):
    """Notes port, from, to (CLOCK_MONOTONIC, ns): from after the bind to before the close."""
    dice = random.Random(seed)
    held = []
    notes = array.array("Q")
    taken = 0
    print("ready", flush=True)
    while True:
        for _ in range(8):
            if len(held) >= held_max or (held and dice.random() < 0.5):
                port, taken_socket, since = held.pop(dice.randrange(len(held)))
                notes.extend((port, since, time.monotonic_ns()))
                taken_socket.close()
                continue
            port = dice.randint(first, last)
            try:
                taken_socket = take(dice.choice(kinds), port)
            except OSError:
                continue
            held.append((port, taken_socket, time.monotonic_ns()))
            taken += 1
        # a breath now and then, or eight of these would leave nobody else a processor
        if select.select([sys.stdin], [], [], 0.002)[0]:
            break
    for port, taken_socket, since in held:
        notes.extend((port, since, time.monotonic_ns()))
        taken_socket.close()
    with open(log, "wb") as out:
        notes.tofile(out)
    print(taken, flush=True)


def main():
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "hold":
        hold(arguments[0], [int(port) for port in arguments[1:]])
    else:
        first, last, seed, log, held_max = arguments[:5]
        churn(int(first), int(last), int(seed), log, arguments[5:], int(held_max))


if __name__ == "__main__":
    main()
