from contextlib import AbstractContextManager
from typing import Protocol

from whcore.datapath import Datapath

class Device(Protocol):
    """What the protocol asks of the owner of the sockets."""

    listen_port: int
    fwmark: int
    def bind(self, port: int) -> None:
        """Listen on another UDP port (0: any). Raises OSError, with the old one still in use."""
    def set_fwmark(self, mark: int) -> None:
        """Mark outgoing datagrams (0: none). Raises OSError."""
    def socket_for(self, v4: bool) -> int:
        """Number of that family's socket in the data plane. Raises OSError where there is none."""

class Policy(Protocol):
    """What clients may change; what they may not is answered with EPERM. Names are the protocol's."""

    def permits_device_change(self, name: str) -> bool:
        """name: private_key, listen_port, fwmark or replace_peers."""
    def permits_peer_change(self, public_key: bytes, name: str) -> bool:
        """name: any that stands below a public_key. A peer that was not there exists by then."""
    def permits_allowed_ip(self, address: bytes, prefix_len: int) -> bool:
        """Whether a prefix may be given to a peer, for which the line itself is permitted."""

def serve(
    fd: int, datapath: Datapath, device: Device, policy: Policy, lock: AbstractContextManager[object]
) -> None:
    """Answer requests of the cross-platform WireGuard configuration protocol on a connected, blocking stream
    socket (its timeouts hold), until its other end closes, says nothing for too long, or sends what is no
    request. Keys pass through locked memory only. lock is held while requests are carried out. Raises OSError
    where an answer cannot be written."""

def endpoint_text(remote: bytes, link: int = 0) -> bytes: ...
