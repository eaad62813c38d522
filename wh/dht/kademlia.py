"""What this node knows of the DHT and holds for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from wh.dht.records.clocks import Clocks
from wh.dht.records.storage import RecordStore
from wh.dht.records.tokens import TokenIssuer
from wh.dht.table.routing_table import RoutingTable
from wh.dht.table.size_estimate import SizeEstimate
from wh.engine.core import Engine
from wh.engine.events import Instant, Key
from wh.wire.errors import UntimelyRecord
from wh.wire.records import (
    Record,
    Sign,
    Verify,
    decode_header_untrusted,
    decode_untrusted,
    is_signed,
    sign_record,
)

SOURCES_MAX = 1024


@dataclass(slots=True)
class Kademlia:
    engine: Engine
    table: RoutingTable
    store: RecordStore
    size: SizeEstimate
    tokens: TokenIssuer
    sign: Sign
    verify: Verify
    clocks: Clocks = field(default_factory=Clocks)
    namespace: bytes = b""
    capabilities: Callable[[], int] = lambda: 0  # ours
    named_by: OrderedDict[Key, Key | None] = field(default_factory=OrderedDict)

    @staticmethod
    def of(engine: Engine, sign: Sign, verify: Verify) -> Kademlia:
        return Kademlia(
            engine=engine,
            table=RoutingTable(engine.key, float("-inf")),
            store=RecordStore(engine.key),
            size=SizeEstimate(),
            tokens=TokenIssuer(engine.rng.randbytes, 0.0),
            sign=sign,
            verify=verify,
        )

    @property
    def joined(self) -> bool:
        """At least one server is believed alive."""
        return bool(self.table.closest(self.engine.key, 1))

    def note_source(self, key: Key, source: Key | None) -> None:
        """Somebody named a server that is going to be asked; another source than before makes it nobody's."""
        if source is None and key not in self.named_by:
            return
        if self.named_by.get(key, source) != source:
            source = None
        self.named_by[key] = source
        if len(self.named_by) > SOURCES_MAX:
            self.named_by.popitem(last=False)

    def only_source_of(self, key: Key) -> Key | None:
        """Who alone has named it; None: several, or nobody, since it came to us."""
        return self.named_by.get(key)

    def decode_record_untrusted(self, data: bytes, now: Instant) -> Record:
        """Raises BadRecord only."""
        try:
            record = decode_untrusted(
                data,
                namespace=self.namespace,
                verify=self.verify,
                unix=now.unix,
                allow_loopback=self.engine.addressing.allow_loopback,
            )
        except UntimelyRecord:
            self._note_untimely(data, now)
            raise
        if self.engine.peers.is_pinned(record.key):
            self.clocks.signed(record.key, record.sequence, now, timely=True)
        return record

    def _note_untimely(self, data: bytes, now: Instant) -> None:
        """Strangers' say nothing, and cost no signature check."""
        header = decode_header_untrusted(data)
        if self.engine.peers.is_pinned(header.key) and is_signed(
            data, header.key, namespace=self.namespace, verify=self.verify
        ):
            self.clocks.signed(header.key, header.sequence, now, timely=False)

    def sign_record(self, record: Record) -> Record:
        return sign_record(record, namespace=self.namespace, sign=self.sign)
