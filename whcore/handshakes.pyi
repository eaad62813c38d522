# Internal to the core: what these do is declared in handshakes.pxd, and Python code cannot reach it.
from typing import Self, final

from whcore.sessions import ReceiverIndices

@final
class Initiation: ...

@final
class InitiationTable:
    def __new__(cls, indices: ReceiverIndices) -> Self: ...

@final
class PendingRequest: ...

@final
class PendingTable:
    def __new__(cls) -> Self: ...
