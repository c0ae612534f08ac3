"""A paced link: a process that forwards TCP connections on loopback at a rate.

It is run as a script of its own: ``link_relay.py BYTES_PER_S BURST_BYTES RECEIVE_BYTES PORT``. It prints the port at
which it listens, forwards to PORT, and paces what comes in from the source.
All connections share one token bucket, as the channels of multifd share a wire. What comes back is not paced.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

CHUNK_BYTES = 65_536


class Bucket:
    """Tokens for bytes: so many a second, and at most a burst of them at once.

    Parameters
    ----------
    bytes_per_s : float
        Rate.
    burst_bytes : int
        What a link that was idle carries at once.
    """

    def __init__(self, bytes_per_s: float, burst_bytes: int) -> None:
        self.bytes_per_s, self.burst_s = bytes_per_s, burst_bytes / bytes_per_s
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> None:
        """Wait until the link has carried some bytes."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic() - self.burst_s) + n_bytes / self.bytes_per_s
            free_at = self._free_at
        wait = free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)


def forward(come_from: socket.socket, go_to: socket.socket, bucket: Bucket | None) -> None:
    """Forward one direction of a connection until it ends, then end it on the other side."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    try:
        while got := come_from.recv_into(buffer):
            if bucket is not None:
                bucket.take(got)
            go_to.sendall(buffer[:got])
        ends, how = [go_to], socket.SHUT_WR
    except OSError:  # one side is gone: the other one must not wait for it
        ends, how = [go_to, come_from], socket.SHUT_RDWR
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(how)


def serve(listener: socket.socket, port: int, bucket: Bucket) -> None:
    """Forward every connection that is made; does not return."""
    while True:
        source, _ = listener.accept()
        try:
            destination = socket.create_connection(("127.0.0.1", port))
        except OSError:
            source.close()
            continue
        for end in (source, destination):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for arguments in ((source, destination, bucket), (destination, source, None)):
            threading.Thread(target=forward, args=arguments, daemon=True).start()


def main() -> None:
    """Forward from a port that the kernel chooses to the port in the last argument."""
    bytes_per_s, burst_bytes, receive_bytes, port = (int(text) for text in sys.argv[1:])
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)  # connections have it from here
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        print(listener.getsockname()[1], flush=True)
        serve(listener, port, Bucket(bytes_per_s, burst_bytes))


if __name__ == "__main__":
    main()
