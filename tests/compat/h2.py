"""As much HTTP/2 (RFC 9113) as an attacker needs: frames, and HPACK without tables or Huffman codes."""
import socket
import struct
import time
import urllib.parse

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value):
    n = len(value)
    if n < 127:
        return bytes([n]) + value
    n -= 127
    out = b"\x7f"
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n]) + value


def headers(*pairs):
    """Each a literal that is not indexed."""
    return b"".join(b"\0" + text(k.encode()) + text(v.encode()) for k, v in pairs)


def request_head(more=()):
    return headers((":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "x"), *more)


class Connection:
    """A connection whose preface and settings are exchanged."""

    def __init__(self, url, window=None, seconds=10):
        where = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=seconds)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, b"" if window is None else struct.pack(">HI", 4, window)))
        self.data = b""

    def send(self, *frames):
        """False: the peer has closed."""
        try:
            self.socket.sendall(b"".join(frames))
            return True
        except OSError:
            return False

    def told(self):
        """Whether the peer has said anything but SETTINGS so far, or has closed."""
        self.socket.setblocking(False)
        try:
            while True:
                got = self.receive(once=True)
                if got is None or got[0] in (GOAWAY, RST_STREAM):
                    return True
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(10)

    def receive(self, once=False):
        """(kind, flags, stream, payload), or None: closed, or nothing within the time."""
        try:
            while len(self.data) < 9 or len(self.data) < 9 + int.from_bytes(self.data[:3], "big"):
                part = self.socket.recv(65536)
                if not part:
                    return None
                self.data += part
        except OSError as e:
            if once and isinstance(e, BlockingIOError):
                raise
            return None
        n = int.from_bytes(self.data[:3], "big")
        got = (self.data[3], self.data[4], int.from_bytes(self.data[5:9], "big") & 0x7fffffff, self.data[9:9 + n])
        self.data = self.data[9 + n:]
        return got

    def ending(self, seconds=10):
        """What the peer does: ("goaway", code), ("reset", code), "closed" or "nothing", within the time. Answers are read over."""
        deadline = time.monotonic() + seconds
        self.socket.settimeout(0.5)
        while time.monotonic() < deadline:
            got = self.receive()
            if got is None:
                try:
                    if self.socket.recv(1, socket.MSG_PEEK) == b"":
                        return "closed", 0
                except TimeoutError:
                    continue
                except OSError:
                    return "closed", 0
                continue
            if got[0] == GOAWAY:
                return "goaway", int.from_bytes(got[3][4:8], "big")
            if got[0] == RST_STREAM:
                return "reset", int.from_bytes(got[3][:4], "big")
        return "nothing", 0

    def close(self):
        self.socket.close()
