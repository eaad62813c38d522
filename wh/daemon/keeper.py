"""What a host has of the overlay, compared with what it should have, and put back where others took it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from wh.engine.limits import RateLimit
from wh.errors import Code, SystemSetupError, UserError
from wh.net.links.interface import Restored, some

LOOK_S = 60.0
"""Between two looks that nothing gave reason to: not all changes come with a notice."""

AT_ONCE, ONE_MORE_S = 20, 2.0
"""So often things are put back without a pause, and once more each two seconds."""

PAUSE_FIRST_S, PAUSE_MAX_S = 1.0, 300.0
QUIET_S = 60.0
"""Nothing taken for this long, or twice the last pause: nobody fights any more."""

TOLD_S = 600.0
COST = 19
"""Seconds of rest for each second of looking: thousands of routes, on a host where something always changes,
take a twentieth of one core."""

LEAVE_ALONE = {
    "NetworkManager": "nmcli device set {name} managed no; for good: share/90-wirehub-unmanaged.conf to "
    "/etc/NetworkManager/conf.d",
    "systemd-networkd": "share/10-wirehub-unmanaged.network to /etc/systemd/network, then networkctl reload",
}

log = logging.getLogger(__name__)


class Pacing:
    """How long not to put back what others take again and again. Times: monotonic seconds."""

    def __init__(self) -> None:
        self._at_once = RateLimit(AT_ONCE, ONE_MORE_S, 1)
        self._pause_s = 0.0
        self._lost_at = float("-inf")

    def pause_after_loss(self, now: float) -> float:
        """0 at first; then it doubles."""
        if now - self._lost_at > max(QUIET_S, 2 * self._pause_s):
            self._at_once, self._pause_s = RateLimit(AT_ONCE, ONE_MORE_S, 1), 0.0
        self._lost_at = now
        if self._pause_s or not self._at_once.allow("", now):
            self._pause_s = min(max(PAUSE_FIRST_S, 2 * self._pause_s), PAUSE_MAX_S)
        return self._pause_s


class ToldOnce:
    """Warnings in the log, each when it comes up."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, warnings: Iterable[SystemSetupError]) -> None:
        texts = {str(warning) for warning in warnings}
        for text in sorted(texts - self._told):
            log.warning("%s", text)
        self._told = texts


class Keeper:
    """restore() puts back what is missing. find_managers(): who may have taken it, by name."""

    def __init__(
        self,
        restore: Callable[[], Awaitable[Restored]],
        find_managers: Callable[[], Awaitable[list[str]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._restore = restore
        self._find_managers = find_managers
        self._clock = clock
        self._noticed = asyncio.Event()
        self._pacing = Pacing()
        self._pause_s = 0.0
        self._last = Restored("")
        self._refused: SystemSetupError | None = None
        self._told = ToldOnce()
        self._times = 0
        self._lost_at = float("-inf")
        self._lost: tuple[str, ...] = ()
        self._managers: list[str] = []
        self._telling: asyncio.Task[None] | None = None

    def notice(self) -> None:
        """Something changed on this host."""
        self._noticed.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._noticed.wait()
            self._noticed.clear()
            started = self._clock()
            self._pause_s = await self.look()
            if self._pause_s:
                self._noticed.set()
            await asyncio.sleep(max(self._pause_s, COST * (self._clock() - started)))

    async def look(self) -> float:
        """Returns how long not to look again."""
        try:
            self._last = await self._restore()
        except SystemSetupError as error:
            if self._refused is None:
                log.warning("what the overlay needs cannot be put back: %s", error)
            self._refused = error
            return 0.0
        self._refused = None
        self._told.tell(self._last.warnings)
        now = self._clock()
        if not self._last.lost:
            return 0.0
        if now - self._lost_at > TOLD_S:
            self._times = 0
            self._telling = asyncio.ensure_future(self._tell())
        self._times += 1
        self._lost, self._lost_at = self._last.lost, now
        return self._pacing.pause_after_loss(now)

    async def _tell(self) -> None:
        """In the log, once until nobody has taken anything for a while."""
        with suppress(UserError):
            self._managers = await self._find_managers()
        warning = self._warning()
        log.warning("%s (%s)", warning, warning.hint)

    def warnings(self) -> tuple[SystemSetupError, ...]:
        """What is wrong now, or was a short while ago."""
        found = [*self._last.warnings]
        if self._refused is not None:
            found.append(self._refused)
        if self._clock() - self._lost_at < TOLD_S:
            found.append(self._warning())
        return tuple(found)

    def _warning(self) -> SystemSetupError:
        times = f", {self._times} times" if self._times > 1 else ""
        ago_s = int(self._clock() - self._lost_at)
        again = f"; not again before {self._pause_s:.0f} s" if self._pause_s else ""
        return SystemSetupError(
            f"others took from {self._last.name} what it needs: {some(self._lost)}; put back {ago_s} s ago"
            f"{times}{again}",
            code=Code.OVERLAY_CHANGED,
            hint=self._hint(),
        )

    def _hint(self) -> str:
        if not self._managers:
            return "`ip monitor` shows what changes; docs/operations.md, Network managers"
        who = " and ".join(self._managers)
        ways = [LEAVE_ALONE.get(each, f"see the manual of {each}") for each in self._managers]
        how = "; ".join(ways).format(name=self._last.name)
        return f"most likely {who}, which runs here, and shall leave it alone: {how}"
