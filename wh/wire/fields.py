"""Types of fields that messages and records share. Each bounds what may come off the network."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

NONCE_LEN = 8
CLAIM_NONCE_LEN = 32

Uint8 = Annotated[int, Meta(ge=0, le=0xFF)]
Uint16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
Uint32 = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
ChannelId = Annotated[int, Meta(ge=0, le=0x7FFF_FFFF)]
Uint64 = Annotated[int, Meta(ge=0)]  # msgpack itself has no longer integers
KeyBytes = Annotated[bytes, Meta(min_length=32, max_length=32)]
AddressBytes = Annotated[bytes, Meta(min_length=18, max_length=18)]
NonceBytes = Annotated[bytes, Meta(min_length=NONCE_LEN, max_length=NONCE_LEN)]
ProofBytes = Annotated[bytes, Meta(min_length=32, max_length=32)]
ClaimNonce = Annotated[bytes, Meta(max_length=CLAIM_NONCE_LEN)]
IpBytes = Annotated[bytes, Meta(min_length=4, max_length=16)]
HostName = Annotated[str, Meta(max_length=63, pattern=r"\A([A-Za-z0-9_][A-Za-z0-9_-]*)?\Z")]
"""May be empty: none."""
