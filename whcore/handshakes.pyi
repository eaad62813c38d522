# Internal to the core: what these do is declared in handshakes.pxd, and Python code cannot reach it.
from typing import Any, Self, final

@final
class Initiation: ...

@final
class InitiationTable:
    def __new__(cls, by_index: dict[int, Any]) -> Self: ...

@final
class PendingRequest: ...

@final
class PendingTable:
    def __new__(cls) -> Self: ...
