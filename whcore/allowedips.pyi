from typing import final

@final
class AllowedIPs:
    """One table, for tests and small uses. Addresses are 4 or 16 bytes; one thread at a time."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def insert(self, address: bytes, prefix_len: int, peer: int) -> None:
        """Give a prefix to peer, taking it from another. Raises ValueError for a bad length."""
    def remove(self, address: bytes, prefix_len: int, peer: int) -> None:
        """Remove a prefix. Raises ValueError, and SystemFailure where peer does not hold it."""
    def remove_peer(self, peer: int) -> None:
        """Remove every prefix of peer."""
    def lookup(self, address: bytes) -> int | None:
        """The peer with the longest prefix of address, or None. Raises ValueError for a wrong length."""
    def items(self) -> list[tuple[bytes, int, int]]:
        """A list of (address, prefix_len, peer), IPv4 first, in order of address."""
