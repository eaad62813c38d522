"""Records that this server keeps for others (docs/protocol.md sections 4 and 5)."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import NamedTuple

from wh.dht.table.diversity import PrefixLimit
from wh.dht.table.metric import K, distance
from wh.engine.crowds import Crowd
from wh.wire.address import Address
from wh.wire.messages import PutStatus
from wh.wire.public_key import Key
from wh.wire.records import Record

MAX_RECORDS = 4_096
"""With at most 512 bytes and about as much of bookkeeping each: 4 MB."""

MAX_RECORDS_OF_NETWORK = 128  # put from one /24, or /48
MAX_NEARER_SERVERS = 2 * K


class StoredRecord(NamedTuple):
    """encoded: the signed bytes. expiry: Unix seconds. source: who put it first or replaced it."""

    encoded: bytes
    sequence: int
    expiry: int
    source: Address


class PutResult(NamedTuple):
    """What a PUT_ACK says. sequence: of the record held now, 0: none. ttl: seconds it will be kept."""

    status: PutStatus
    sequence: int
    ttl: int


class RecordStore:
    """At most 4,096 records, one a key. Times are Unix seconds.

    Takes only records whose signature is checked, from senders whose token is.
    """

    def __init__(
        self, own_key: Key, *, capacity: int = MAX_RECORDS, network_limit: int = MAX_RECORDS_OF_NETWORK
    ) -> None:
        self._own_key = own_key
        self._capacity = capacity
        self._records: dict[Key, StoredRecord] = {}
        self._by_distance: list[tuple[int, Key]] = []
        self._limit = PrefixLimit(24, 48, network_limit)
        self._sources: Crowd[Key] = Crowd()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: Key, unix: float) -> StoredRecord | None:
        """The record of key, unless it has expired."""
        stored = self._records.get(key)
        return stored if stored is not None and stored.expiry > unix else None

    def put(self, record: Record, source: Address, *, nearer_servers: int, unix: float) -> PutResult:
        """Store a record.

        source: the address it came from. nearer_servers: live servers known to be nearer to its key than we
        are (RoutingTable.count_nearer).
        """
        held = self.get(record.key, unix)
        if held is not None and held.sequence >= record.sequence:
            status = PutStatus.STORED if held.sequence == record.sequence else PutStatus.OUTDATED
            return _result(status, held, unix)
        if held is None and nearer_servers >= MAX_NEARER_SERVERS:
            return _result(PutStatus.TOO_FAR, held, unix)
        if not self._has_room(record.key, source, unix):
            return _result(PutStatus.FULL, held, unix)
        self._remove(record.key)
        stored = StoredRecord(record.encoded, record.sequence, record.expiry, source)
        self._records[record.key] = stored
        insort(self._by_distance, self._rank(record.key))
        self._limit.add(source)
        self._sources.add(record.key, source)
        return _result(PutStatus.STORED, stored, unix)

    def expire(self, unix: float) -> None:
        """Drop what has expired; call it about once a minute."""
        for key in [key for key, stored in self._records.items() if stored.expiry <= unix]:
            self._remove(key)

    def _has_room(self, key: Key, source: Address, unix: float) -> bool:
        """Whether a record from source may be kept, if need be in the place of one that came from the most
        crowded network, the farthest of these; or, where networks are alike, of a farther one."""
        held = self._records.get(key)
        network_of = self._limit.network_of
        replaces_own = held is not None and network_of(held.source) == network_of(source)
        if not replaces_own and not self._limit.has_room(source):
            return False
        if held is not None or len(self._records) < self._capacity:
            return True
        self.expire(unix)
        if len(self._records) >= self._capacity:
            rivals = self._sources.rivals(source)
            if rivals:
                self._remove(max(rivals, key=self._rank))
            elif self._by_distance[-1] > self._rank(key):
                self._remove(self._by_distance[-1][1])
        return len(self._records) < self._capacity

    def _remove(self, key: Key) -> None:
        stored = self._records.pop(key, None)
        if stored is not None:
            del self._by_distance[bisect_left(self._by_distance, self._rank(key))]
            self._limit.remove(stored.source)
            self._sources.remove(key)

    def _rank(self, key: Key) -> tuple[int, Key]:
        return distance(key, self._own_key), key


def _result(status: PutStatus, held: StoredRecord | None, unix: float) -> PutResult:
    if held is None:
        return PutResult(status, 0, 0)
    return PutResult(status, held.sequence, max(0, int(held.expiry - unix)))
