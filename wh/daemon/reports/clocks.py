"""What is wrong with clocks, for whoever can set them."""

from __future__ import annotations

from wh.config.model import Network
from wh.errors import Code, SystemSetupError
from wh.naming.table import NameTable
from wh.node.status import ClockStatus

UNITS = (("days", 86400.0), ("h", 3600.0), ("min", 60.0))


def clock_warnings(network: Network, clocks: ClockStatus) -> tuple[SystemSetupError, ...]:
    if clocks.slow_s is not None:
        return (own_clock_warning(clocks.slow_s),)
    names = NameTable(network)
    return tuple(
        SystemSetupError(
            f"the clock of {names.label(key)} is {_rounded(ahead_s)} fast",
            code=Code.CLOCK_WRONG,
            hint="others refuse its records, and do not find it: set it right there",
        )
        for key, ahead_s in clocks.fast
    )


def own_clock_warning(slow_s: float) -> SystemSetupError:
    direction = "slow" if slow_s > 0 else "fast"
    return SystemSetupError(
        f"this machine's clock is {_rounded(abs(slow_s))} {direction}, by the records of other nodes",
        code=Code.CLOCK_WRONG,
        hint="set it right: until then others' records are refused here, and ours there; no member is found",
    )


def _rounded(seconds: float) -> str:
    """Rough, as the age of a record is not known: the same text for the same error."""
    unit, length = next((each for each in UNITS if seconds >= 0.9 * each[1]), UNITS[-1])
    return f"about {max(1, round(seconds / length))} {unit}"
