from typing import final

WINDOW: int  # how far behind the highest accepted counter another may be
LIMIT_MAX: int  # 2^64 - WINDOW

@final
class ReplayWindow:
    """One window, for tests and small uses."""

    def __init__(self) -> None: ...
    def accept(self, counter: int, limit: int = ...) -> bool:
        """True once a counter, if it is below limit and at most WINDOW behind the highest accepted one.
        Raises ValueError for a limit over LIMIT_MAX."""
    def reset(self) -> None:
        """Forget every counter."""
