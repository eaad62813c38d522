"""Control messages (docs/protocol.md section 3), one struct a type.

On the wire each is a msgpack array [type, request id, fields...] in the order of the struct. Fields added
later go to the end with a default, so that older and newer nodes understand each other. Every length is
bounded by the schema. An answer carries the request id of what it answers; a message that nobody asked for
carries 0.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from msgspec import Meta, Struct

from wh.wire.candidates import MAX_CANDIDATES, Candidate, NatProfile
from wh.wire.fields import (
    NONCE_LEN,
    AddressBytes,
    ChannelId,
    ClaimNonce,
    HostName,
    IpBytes,
    KeyBytes,
    NonceBytes,
    ProofBytes,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
)

MAX_CONTACTS = 20
MAX_RECORD_LEN = 512
MAX_TOKEN_LEN = 16
MAX_PROBE_PADDING = 1_024
MAX_OVERLAY_ADDRESSES = 4

TokenBytes = Annotated[bytes, Meta(max_length=MAX_TOKEN_LEN)]
RecordBytes = Annotated[bytes, Meta(max_length=MAX_RECORD_LEN)]
OverlayAddresses = Annotated[tuple[IpBytes, ...], Meta(max_length=MAX_OVERLAY_ADDRESSES)]
PaddingBytes = Annotated[bytes, Meta(max_length=MAX_PROBE_PADDING)]


class Capability(IntFlag):
    """What a node offers, or lacks. Structs hold a plain int, and `&` tests a bit: no value off the network
    becomes a member as it is, because Python keeps every combination of flags that it has seen."""

    SERVER = 1  # reachable: stores records, may enter routing tables
    RELAY = 2  # takes reservations
    NO_IPV6 = 4  # its host takes no IPv6 of the overlay; in PING and PONG alone


class PingWant(IntEnum):
    ECHO = 0
    DIALBACK = 1  # have a third node KNOCK at my observed IP; only in a validated session


class ChallengeWant(IntEnum):
    """Whether the path still is the peer's own choice: from one that it has left itself no RESPONSE comes."""

    ANY = 0
    DATA = 1  # for its data to us
    RELAY = 2  # to us as its relay


class FindWant(IntFlag):
    NODES = 1
    RECORD = 2


class PutStatus(IntEnum):
    STORED = 0  # stored, or already held with this sequence
    OUTDATED = 1  # a higher sequence is held
    BAD_TOKEN = 2
    BAD_RECORD = 3
    TOO_FAR = 4  # 2k live servers are nearer
    FULL = 5


class RelayStatus(IntEnum):
    """In RESERVED and OPENED."""

    OK = 0
    REFUSED = 1  # the operator offers no relay, or not to strangers
    FULL = 2  # a limit of the relay, or of the asker's network, is reached
    UNKNOWN = 3  # the target has no reservation here
    BARRED = 4  # the target closed a channel of this key lately


class CloseReason(IntEnum):
    DONE = 0
    UNWANTED = 1  # from a target: bars the opener's key for 10 min
    SILENT = 2
    QUOTA = 3
    GONE = 4  # the other end has left the relay
    CROWDED = 5  # the relay is full, and the client's network has the most there


class AuthStatus(IntEnum):
    OK = 0  # the alias is the claimant's now, or was before
    UNKNOWN = 1  # no such alias here, or the proof does not hold
    USED = 2  # another key has claimed it
    EXPIRED = 3
    FAILED = 4  # the claim could not be written down
    PROVED = 5  # the nonce is the server's: REVEAL comes next
    AGAIN = 6  # what REVEAL goes on with is not known: begin anew


class Contact(Struct, array_like=True, frozen=True):
    """A node as another one tells of it. flags: Capability bits."""

    key: KeyBytes
    address: AddressBytes
    flags: Uint16 = 0


class Ping(Struct, array_like=True, frozen=True, tag=1):
    """want: a PingWant. port: with DIALBACK, the one to KNOCK at (0: the observed one). capabilities: the
    sender's own, so that the answerer learns that a server talks to it. instance: which run of the sender
    this is; 0: it does not say."""

    request_id: Uint32
    want: Uint8
    port: Uint16
    nonce: NonceBytes
    capabilities: Uint16 = 0
    instance: Uint64 = 0


class Pong(Struct, array_like=True, frozen=True, tag=2):
    """observed: where the PING came from. load: percent. record_sequence: of the answerer's own record,
    0: none. nonce: the PING's. tcp_port: where the answerer also takes who comes over TCP; 0: nowhere.
    doubled: whether another run than the PING's is heard under its sender's key."""

    request_id: Uint32
    observed: AddressBytes
    capabilities: Uint16
    load: Uint8
    record_sequence: Uint64
    nonce: NonceBytes = bytes(NONCE_LEN)
    tcp_port: Uint16 = 0
    doubled: bool = False


class Find(Struct, array_like=True, frozen=True, tag=3):
    """have_sequence: send the record only if it is newer. max: contacts wanted. want: FindWant bits."""

    request_id: Uint32
    key: KeyBytes
    have_sequence: Uint64
    max: Uint8
    want: Uint8


class Nodes(Struct, array_like=True, frozen=True, tag=4):
    """token: for a PUT to this node from the address that asked. contacts: nearest first; on the wire they
    are packed (wh.wire.contacts)."""

    request_id: Uint32
    token: TokenBytes
    contacts: Annotated[tuple[Contact, ...], Meta(max_length=MAX_CONTACTS)]
    record: RecordBytes | None = None


class Put(Struct, array_like=True, frozen=True, tag=5):
    request_id: Uint32
    token: TokenBytes
    record: RecordBytes


class PutAck(Struct, array_like=True, frozen=True, tag=6):
    """status: a PutStatus. stored_sequence: of the record held now, 0: none. ttl: seconds it will be kept."""

    request_id: Uint32
    status: Uint8
    stored_sequence: Uint64
    ttl: Uint16


class Challenge(Struct, array_like=True, frozen=True, tag=7):
    """want: a ChallengeWant."""

    request_id: Uint32
    nonce: NonceBytes
    want: Uint8 = 0


class Response(Struct, array_like=True, frozen=True, tag=8):
    """nonce: the CHALLENGE's, sent back from the address that it went to."""

    request_id: Uint32
    nonce: NonceBytes


class Dialback(Struct, array_like=True, frozen=True, tag=9):
    """address: where the KNOCK with this nonce shall go."""

    request_id: Uint32
    address: AddressBytes
    nonce: NonceBytes


class Reserve(Struct, array_like=True, frozen=True, tag=10):
    """Ask a server to relay for us. ttl: seconds wanted; 0 ends the reservation."""

    request_id: Uint32
    ttl: Uint16


class Reserved(Struct, array_like=True, frozen=True, tag=11):
    """The answer to RESERVE; unasked (request id 0): the reservation has gone to somebody else.

    status: a RelayStatus. ttl: seconds from now; 0 where there is none. rate: bytes/s of a channel, quota:
    bytes of a channel; 0: unlimited."""

    request_id: Uint32
    status: Uint8
    ttl: Uint16 = 0
    rate: Uint32 = 0
    quota: Uint64 = 0


class Open(Struct, array_like=True, frozen=True, tag=12):
    """Ask a relay for a channel to `peer`, which has a reservation there; or agree to the one that it has
    opened to us."""

    request_id: Uint32
    peer: KeyBytes


class Opened(Struct, array_like=True, frozen=True, tag=13):
    """The answer to OPEN, and, unasked (request id 0), what the relay tells the other end.

    status: a RelayStatus. channel: our leg's id. peer: who is at the other end. observed: where the relay
    sees it; zeros until both ends have said OPEN.
    """

    request_id: Uint32
    status: Uint8
    channel: ChannelId = 0
    peer: KeyBytes = bytes(32)
    observed: AddressBytes = bytes(18)


class Close(Struct, array_like=True, frozen=True, tag=15):
    """From a client: it wants the channel no more; from the relay: it has ended. reason: a CloseReason."""

    request_id: Uint32
    channel: ChannelId
    reason: Uint8 = 0


class Offer(Struct, array_like=True, frozen=True, tag=20):
    """Begin a round of hole punching (docs/protocol.md section 7). attempt: chosen by who offers. round: from
    0. nat: of the sender's socket; candidates: where the sender will send from."""

    request_id: Uint32
    attempt: Uint32
    round: Uint8
    nat: NatProfile
    candidates: Annotated[tuple[Candidate, ...], Meta(max_length=MAX_CANDIDATES)]


class Answer(Struct, array_like=True, frozen=True, tag=21):
    """The answer to OFFER, same fields. An empty list of candidates refuses."""

    request_id: Uint32
    attempt: Uint32
    round: Uint8
    nat: NatProfile
    candidates: Annotated[tuple[Candidate, ...], Meta(max_length=MAX_CANDIDATES)]


class Go(Struct, array_like=True, frozen=True, tag=22):
    """Start sending PROBEs `delay` ms after this arrives."""

    request_id: Uint32
    attempt: Uint32
    round: Uint8
    delay: Uint16 = 0


class Probe(Struct, array_like=True, frozen=True, tag=23):
    """padding makes the datagram as long as the path that is tried; its bytes mean nothing."""

    request_id: Uint32
    attempt: Uint32
    number: Uint32
    padding: PaddingBytes = b""


class ProbeAck(Struct, array_like=True, frozen=True, tag=24):
    """attempt and number: the PROBE's. Never longer than what it answers."""

    request_id: Uint32
    attempt: Uint32
    number: Uint32
    padding: PaddingBytes = b""


class Nominate(Struct, array_like=True, frozen=True, tag=25):
    """path: 0 is the path that this message travels on."""

    request_id: Uint32
    epoch: Uint32
    path: Uint32 = 0


class Subnet(Struct, array_like=True, frozen=True):
    """base: 4 or 16 bytes of address."""

    base: IpBytes
    prefix_len: Uint8


class Auth(Struct, array_like=True, frozen=True, tag=30):
    """A claim of an alias, of the session that it travels in (docs/protocol.md section 9). proof: zeros in a
    command, where the runner puts it in."""

    request_id: Uint32
    alias: KeyBytes
    commitment: ProofBytes
    proof: ProofBytes = bytes(32)


class Authed(Struct, array_like=True, frozen=True, tag=31):
    """status: an AuthStatus; what follows it is there with OK only, but for the nonce of PROVED. name,
    addresses: of the claimant in the overlay, 4 or 16 bytes each; those of the server likewise."""

    request_id: Uint32
    alias: KeyBytes
    status: Uint8
    name: HostName = ""
    addresses: OverlayAddresses = ()
    subnet: Subnet | None = None
    server_name: HostName = ""
    server_addresses: OverlayAddresses = ()
    nonce: ClaimNonce = b""


class Reveal(Struct, array_like=True, frozen=True, tag=32):
    """nonce: what the AUTH before was committed to."""

    request_id: Uint32
    alias: KeyBytes
    nonce: ProofBytes


class Leaving(Struct, array_like=True, frozen=True, tag=40):
    request_id: Uint32 = 0


Message = (
    Ping
    | Pong
    | Find
    | Nodes
    | Put
    | PutAck
    | Challenge
    | Response
    | Dialback
    | Reserve
    | Reserved
    | Open
    | Opened
    | Close
    | Offer
    | Answer
    | Go
    | Probe
    | ProbeAck
    | Nominate
    | Auth
    | Authed
    | Reveal
    | Leaving
)

ANSWERS: dict[type[Message], type[Message]] = {
    Ping: Pong,
    Find: Nodes,
    Put: PutAck,
    Challenge: Response,
    Reserve: Reserved,
    Open: Opened,
    Offer: Answer,
    Probe: ProbeAck,
    Auth: Authed,
    Reveal: Authed,
}
"""Request -> its answer. The other messages ask for none."""
