_Buffer = bytes | bytearray | memoryview

class AllowedIPs:
    """One table, for tests and small uses. Addresses are 4 or 16 bytes; one thread at a time."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def insert(self, address: _Buffer, prefix_len: int, peer: int) -> None:
        """Give a prefix to peer, taking it from another. Raises ValueError for a wrong length or prefix_len."""
    def remove(self, address: _Buffer, prefix_len: int, peer: int) -> None:
        """Remove a prefix. Raises ValueError, and SystemFailure where peer does not hold it."""
    def remove_peer(self, peer: int) -> None:
        """Remove every prefix of peer."""
    def lookup(self, address: _Buffer) -> int | None:
        """The peer with the longest prefix of address, or None. Raises ValueError for a wrong length."""
    def items(self) -> list[tuple[bytes, int, int]]:
        """A list of (address, prefix_len, peer), IPv4 first, in order of address."""
