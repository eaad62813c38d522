"""Both of our parts in relaying: the service that we offer, and the relays that we use."""

from __future__ import annotations

from wh.config.model import Network
from wh.engine.events import Instant, Key, MessageReceived, RelayEnded, RelayOpened
from wh.relay.reserver import RelayClient
from wh.relay.service import RelayService
from wh.wire.messages import Close, Open, Opened, Reserve, Reserved


class Relaying:
    """A node can be relay and client at once, also of the same other node."""

    def __init__(self, service: RelayService, client: RelayClient) -> None:
        self._service = service
        self._client = client

    def handle(self, event: MessageReceived, now: Instant) -> bool:
        """Whether the message was about relaying, and is done with."""
        match event.message:
            case _ if event.first_contact:
                return False
            case Reserve() | Open():
                self._service.handle(event, now)
            case Close() as close:
                if not self._service.closed_by(event, close, now):
                    self._client.closed_by(event, close, now)
            case Opened(request_id=0) as opened:
                self._client.offered(event, opened, now)
            case Reserved(request_id=0):
                self._client.crowded_out(event, now)
            case _:
                return False
        return True

    def forwarder_event(self, event: RelayOpened | RelayEnded, now: Instant) -> None:
        match event:
            case RelayOpened():
                self._service.opened(event, now)
            case RelayEnded():
                self._service.ended(event)

    def served(self) -> tuple[int, int]:
        """Reservations and channels of others, here."""
        return self._service.served()

    def set_network(self, network: Network, now: Instant) -> None:
        self._service.set_network(network, now)
        self._client.set_network(network, now)

    def left(self, key: Key, now: Instant) -> None:
        """A node said LEAVING."""
        self._service.left(key)
        self._client.left(key, now)
