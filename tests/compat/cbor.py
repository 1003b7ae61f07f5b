"""As much CBOR (RFC 8949) as the Kinesis protocol has: maps, lists, texts, bytes, integers, booleans, null, and tag 1 with milliseconds (Time).

encode(value, indefinite=True) writes maps and lists as Jackson does, without their lengths."""
import struct


class Time(int):
    """Milliseconds since 1970, as tag 1."""


def head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    for code, form, bound in ((24, ">B", 1 << 8), (25, ">H", 1 << 16), (26, ">I", 1 << 32), (27, ">Q", 1 << 64)):
        if n < bound:
            return bytes([major << 5 | code]) + struct.pack(form, n)
    raise ValueError(n)


def encode(value, indefinite=False):
    if value is None:
        return b"\xf6"
    if value is True or value is False:
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, Time):
        return b"\xc1" + head(0, int(value))
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, (bytes, bytearray)):
        return head(2, len(value)) + bytes(value)
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, (list, tuple)):
        body = b"".join(encode(item, indefinite) for item in value)
        return b"\x9f" + body + b"\xff" if indefinite else head(4, len(value)) + body
    if isinstance(value, dict):
        body = b"".join(encode(key) + encode(item, indefinite) for key, item in value.items())
        return b"\xbf" + body + b"\xff" if indefinite else head(5, len(value)) + body
    raise TypeError(type(value))


STOP = object()


def item(data, at):
    """(value, position behind it)."""
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    n = low
    if 24 <= low <= 27:
        size = 1 << (low - 24)
        n = int.from_bytes(data[at:at + size], "big")
        at += size
    elif low == 31:
        n = None
    if major == 7:
        if low == 31:
            return STOP, at
        if low == 27:
            return struct.unpack(">d", data[at - 8:at])[0], at
        if low == 26:
            return struct.unpack(">f", data[at - 4:at])[0], at
        return {20: False, 21: True, 22: None}[low], at
    if major == 0:
        return n, at
    if major == 1:
        return -1 - n, at
    if major == 6:
        value, at = item(data, at)
        return (Time(value) if n == 1 and isinstance(value, int) else value), at
    if major in (2, 3):
        if n is None:
            parts = []
            while True:
                part, at = item(data, at)
                if part is STOP:
                    return (b"" if major == 2 else "").join(parts), at
                parts.append(part)
        if at + n > len(data):
            raise ValueError("cut off")
        return (data[at:at + n] if major == 2 else data[at:at + n].decode()), at + n
    values = []
    count = None if n is None else n * (2 if major == 5 else 1)
    while count is None or len(values) < count:
        value, at = item(data, at)
        if value is STOP:
            break
        values.append(value)
    return (values if major == 4 else dict(zip(values[::2], values[1::2]))), at


def decode(data):
    value, at = item(data, 0)
    if at != len(data):
        raise ValueError("%d bytes too many" % (len(data) - at))
    return value
