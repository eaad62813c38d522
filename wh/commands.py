"""What a node wants done, as values: the runner carries these out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wh.events import Key, Path, ReplyToken
from wh.wire.address import Address
from wh.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Send:
    """A message to a peer: in its session (DATA) if there is one, else, for PING and FIND only, in an INIT.

    While a handshake is in flight the runner keeps it (bounded, 1 s) and sends it once the session is up,
    except the very message that the INIT in flight carries: on a path where that INIT did not go yet the same
    INIT goes there too (the candidates of a peer are tried in parallel, and any may answer); on a path where
    it did, a new INIT is made. pad_to: plaintext size of an INIT, so that the answer has room."""

    peer: Key
    path: Path
    message: Message
    pad_to: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    to: ReplyToken
    message: Message


@dataclass(frozen=True, slots=True)
class Knock:
    """One unauthenticated KNOCK datagram."""

    socket: int
    to: Address
    nonce: bytes


@dataclass(frozen=True, slots=True)
class ResetSession:
    """Forget the control session with a peer: the next Send makes a new INIT."""

    peer: Key


@dataclass(frozen=True, slots=True)
class SetDataPath:
    """Where the data plane sends a peer's packets; None: nowhere. keepalive_s: WireGuard's."""

    peer: Key
    path: Path | None
    keepalive_s: int = 0


@dataclass(frozen=True, slots=True)
class ResolveName:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Notify:
    """Progress (final=False) or the result of a request that came in as an event, for whoever asked."""

    request: int
    final: bool
    body: dict[str, Any] = field(default_factory=dict)


Command = Send | Reply | Knock | ResetSession | SetDataPath | ResolveName | Notify
