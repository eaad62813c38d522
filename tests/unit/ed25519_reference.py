"""Ed25519 and XEdDSA in plain integers: slow, not constant-time, and independent of the core's arithmetic.

Written from RFC 8032 and Signal's XEdDSA specification, with affine points and their textbook addition law.
"""

import hashlib

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def recover_x(y: int, sign: int) -> int | None:
    """RFC 8032, 5.1.3."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2
    x3 = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y3 = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x3, y3


def multiply(scalar: int, point: Point) -> Point:
    total = (0, 1)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


B_Y = 4 * pow(5, -1, P) % P
B_X = recover_x(B_Y, 0)
assert B_X is not None
B: Point = (B_X, B_Y)


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y)


def clamp(secret: bytes) -> int:
    """RFC 7748, 5."""
    return int.from_bytes(secret, "little") & ~7 & (2**255 - 1) | 2**254


def x25519_public(secret: bytes) -> bytes:
    y = multiply(clamp(secret), B)[1]
    return ((1 + y) * pow(1 - y, -1, P) % P).to_bytes(32, "little")


def edwards_key(public_key: bytes) -> bytes:
    """The Ed25519 public key, sign 0, of an X25519 one."""
    u = int.from_bytes(public_key, "little")
    return ((u - 1) * pow(u + 1, -1, P) % P).to_bytes(32, "little")


def sha512_mod_q(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % Q


def xeddsa_sign(secret: bytes, message: bytes, noise: bytes) -> bytes:
    k = clamp(secret)
    x, y = multiply(k, B)
    a = -k % Q if x & 1 else k % Q
    public = y.to_bytes(32, "little")
    r = sha512_mod_q(b"\xfe" + b"\xff" * 31, a.to_bytes(32, "little"), message, noise)
    commitment = encode(multiply(r, B))
    s = (r + sha512_mod_q(commitment, public, message) * a) % Q
    return commitment + s.to_bytes(32, "little")


def xeddsa_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    public = edwards_key(public_key)
    key_point, commitment = decode(public), decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key_point is None or commitment is None or s >= Q:
        return False
    h = sha512_mod_q(signature[:32], public, message)
    return multiply(s, B) == add(commitment, multiply(h, key_point))
