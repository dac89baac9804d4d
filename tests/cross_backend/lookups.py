"""Run a program in a network of its own, and print every name that it, or anything in it, looks up.

usage: unshare --user --map-root-user --net --mount python lookups.py PROGRAM [ARGUMENT ...]

Nothing is reached: the only server there is this one, on the loopback device, and it knows no name. It takes the place
of the C library's, so that what a compiled runtime asks for is seen as what Python asks for.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading

SIOCSIFFLAGS, IFF_UP, IFF_RUNNING, MS_BIND = 0x8914, 0x1, 0x40, 0x1000


def name_in(question: bytes) -> str:
    """Return the name in a DNS query: labels from byte 12 on, each after its length, up to an empty one."""
    labels, place = [], 12
    while length := question[place]:
        labels.append(question[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(labels)


def serve(server: socket.socket) -> None:
    """Answer every query with "no such name" (RFC 1035, section 4.1.1), and print it."""
    while True:
        question, asker = server.recvfrom(4096)
        sys.stdout.write(f"{name_in(question)}\n")
        server.sendto(question[:2] + b"\x81\x83" + question[4:6] + bytes(6) + question[12:], asker)


def main() -> int:
    """Set the network up, run the program in it, and return its status."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
        fcntl.ioctl(device, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP | IFF_RUNNING))
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as servers:
        servers.write("nameserver 127.0.0.1\n")
        servers.flush()
        libc = ctypes.CDLL(None, use_errno=True)
        # Mounted, it stays there without its name.
        if libc.mount(servers.name.encode(), b"/etc/resolv.conf", None, MS_BIND, None):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "/etc/resolv.conf")
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    threading.Thread(target=serve, args=[server], daemon=True).start()
    return subprocess.run(sys.argv[1:], stdout=sys.stderr, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
