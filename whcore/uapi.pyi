from typing import Protocol

from whcore.datapath import Datapath

class Device(Protocol):
    """What the protocol asks of the owner of the sockets."""

    listen_port: int
    fwmark: int
    def bind(self, port: int) -> None:
        """Listen on another UDP port (0: any). Raises OSError."""
    def set_fwmark(self, mark: int) -> None:
        """Mark outgoing datagrams (0: none). Raises OSError."""
    def socket_for(self, v4: bool) -> int:
        """Number of that family's socket in the data plane. Raises OSError where there is none."""

def serve(fd: int, datapath: Datapath, device: Device) -> None:
    """Answer requests of the cross-platform WireGuard configuration protocol on a connected, blocking stream
    socket until its other end closes or sends what is no request. Keys pass through locked memory only."""
