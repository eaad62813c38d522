# Internal to the core: what these do is declared in sessions.pxd, and Python code cannot reach it.
from typing import Self, final

from whcore.sieve import ControlSieve

@final
class SecretSlab:
    def __new__(cls, item_size: int) -> Self: ...

@final
class Keypair: ...

@final
class Session: ...

@final
class ReceiverIndices:
    def __new__(cls, sieve: ControlSieve) -> Self: ...

@final
class SessionTable:
    def __new__(cls, max_sessions: int, indices: ReceiverIndices) -> Self: ...

@final
class TimestampTable:
    def __new__(cls, max_strangers: int) -> Self: ...
