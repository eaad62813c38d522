"""Whether our NAT sends back inside what we send to its own outer address (RFC 4787 section 6)."""

from __future__ import annotations

from wh.engine.commands import Knock
from wh.engine.core import Engine
from wh.engine.events import Instant
from wh.engine.timers import Alarm
from wh.wire.address import Address

PATIENCE_S = 2.0


class Hairpin:
    """works: None: not known, or there is no translation. Found out once after each restart()."""

    def __init__(self, engine: Engine) -> None:
        self.works: bool | None = None
        self._engine = engine
        self._nonce: bytes | None = None
        self._timer = Alarm(engine.timers)

    def restart(self) -> None:
        """We are somewhere else, or there is no translation."""
        self.works = self._nonce = None
        self._timer.cancel()

    def attempt(self, observed: Address, now: Instant) -> None:
        """Knock at our own door. observed: where others see us; an address of this host is no door."""
        if self._nonce is not None or self.works is not None:
            return
        path = self._engine.addressing.path_to(observed)
        if path is None or not self._engine.addressing.is_acceptable_as_own(observed):
            return
        self._nonce = self._engine.nonce()
        self._engine.emit(Knock(path.socket, observed, self._nonce))
        self._timer.set(now.monotonic + PATIENCE_S, self._give_up)

    def knocked(self, nonce: bytes) -> bool:
        """Whether that KNOCK was ours."""
        if nonce != self._nonce:
            return False
        self.restart()
        self.works = True
        return True

    def _give_up(self, now: Instant) -> None:
        self._nonce = None
        self.works = False
