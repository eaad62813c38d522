"""Errors that users see, and the table of their codes."""

from __future__ import annotations

from enum import StrEnum, unique

from whcore.errors import WireHubError


@unique
class Code(StrEnum):
    """Every stable error code of WireHub; `meaning` is the line that documentation and `wh help errors`
    show.

    WH10x keys, WH11x-12x the network file, WH13x the command line, WH14x-15x invitations, WH20x bytes from
    the network, WH21x-23x this system, WH30x the core, WH31x-32x the running daemon. A code is never given a
    second meaning.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Code:
        code = str.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    UNKNOWN = "WH100", "an error that has no code of its own"
    BAD_KEY = "WH101", "a key has the wrong form, the wrong length, or is unsafe to use"

    FILE_UNREADABLE = "WH110", "the network file cannot be read"
    FILE_NOT_TEXT = "WH111", "the network file is too large or is not UTF-8 text"
    UNKNOWN_WORD = "WH112", "a line of the network file begins with an unknown word"
    SETTING_REPEATED = "WH113", "a setting stands twice in the network file"
    BAD_SETTING = "WH114", "a setting of the network file has no value, or one it cannot have"
    NO_SUBNET = "WH115", "a trusted peer stands before any subnet line"
    NO_PEER_KEY = "WH116", "a peer line has no public key"
    BAD_PEER_KEY = "WH117", "the public key of a peer line is unsafe, or already used"
    BAD_HOSTNAME = "WH118", "a host name is malformed, or already used"
    BAD_PRIVATE_IP = "WH119", "a private address is outside the subnet, already used, or not allowed here"
    BAD_ENDPOINT = "WH120", "an endpoint is malformed or missing"
    SUBNET_FULL = "WH121", "the subnet has fewer addresses than trusted nodes"
    EXTRA_WORD = "WH122", "a line of the network file has a word too many"
    BAD_ALIAS = "WH123", "an alias names a node or a time that makes no sense"
    FILE_UNWRITABLE = "WH124", "the network file cannot be changed"
    FILE_EMPTY = "WH125", "the network file says nothing"
    UNSEEN_CHARACTER = "WH126", "a word of the network file has a character that cannot be seen"

    USAGE = "WH130", "the command line is not understood"
    OUTPUT = "WH131", "standard output, or a file in its place, cannot be written"
    INPUT = "WH132", "standard input cannot be read"
    COMMAND_NOT_RUN = "WH133", "a command that was to be run is not there, or cannot be run"

    INVITATION_MALFORMED = "WH140", "a text is no invitation, or says what none may say"
    INVITATION_TRUNCATED = "WH141", "an invitation is cut off"
    INVITATION_MISTYPED = "WH142", "an invitation has a wrong character"
    INVITATION_VERSION = "WH143", "an invitation is of another version of WireHub"
    INVITATION_EXPIRED = "WH144", "an invitation has expired"
    INVITATION_OWN = "WH145", "an invitation is for the node that made it"
    INVITATION_USED = "WH146", "somebody else has used the invitation"
    INVITATION_REFUSED = "WH147", "the node that invited does not know the invitation, or no longer"
    INVITATION_FAILED = (
        "WH148",
        "the node that invited could not let the newcomer in",
    )
    INVITATION_EXCESSIVE = "WH149", "an invitation asks for what others may not ask of this host"
    NO_CHECK_WORDS = "WH150", "a claim was accepted without what check words come from"
    NAME_TAKEN = "WH151", "the name of an invitation is that of a member, or of another open invitation"

    BAD_PACKET = "WH201", "bytes from the network do not verify"
    NOT_PERMITTED = "WH210", "no permission to configure the network"
    INTERFACE_TAKEN = "WH211", "the network interface exists already"
    NO_TUN_DEVICE = "WH212", "the system has no usable /dev/net/tun"
    BAD_INTERFACE_NAME = "WH213", "not a valid name for a network interface"
    PORT_TAKEN = "WH214", "the port is used by another program"
    KEY_FILE_UNREADABLE = "WH215", "the private key file cannot be read"
    KEY_FILE_EXPOSED = "WH216", "other users can read the private key file"
    NETWORK_SETUP = "WH217", "the system refused a network setting"
    HOSTS_FILE = "WH218", "the hosts file cannot be read or written"
    HOSTS_NAME_TAKEN = "WH219", "the hosts file already gives a name another address"
    NO_IPV6 = "WH220", "IPv6 is disabled on this system"
    ROUTE_TAKEN = "WH221", "another interface already has a route to the same network"
    ALREADY_RUNNING = "WH222", "a daemon already runs on the interface"
    RUN_DIRECTORY = "WH223", "the run directory cannot be used"
    DAEMON_START = "WH224", "the daemon did not start"
    RESTART_NEEDED = "WH225", "the new network file changes what only a new start can change"
    PRIVILEGES = "WH226", "privileges that are not needed could not be given up"
    HELPER_GONE = "WH227", "the daemon's helper process has ended, or did not answer"
    OVERLAY_CHANGED = "WH228", "others change what the overlay needs of this host"
    CLOCK_WRONG = "WH229", "a clock is wrong"

    NO_NAMESPACE = "WH230", "this system lets us make no private network namespace"

    CORE_FAILURE = "WH301", "a call into the core failed"
    NO_DAEMON = "WH310", "no daemon answers"
    IPC_DENIED = "WH311", "the caller may not do this"
    IPC_BAD_REQUEST = "WH312", "the daemon does not understand the request"
    IPC_TIMEOUT = "WH313", "the daemon did not answer in time"
    UNKNOWN_PEER = "WH314", "no such peer, name or interface"
    IPC_BAD_REPLY = "WH315", "the daemon's answer is not understood"
    IPC_BUSY = "WH316", "the daemon has too many requests open"

    NOT_FOUND = "WH320", "no address of the peer is known"
    NO_ANSWER = "WH321", "the peer does not answer"
    TOO_MANY_INQUIRIES = "WH322", "too many lookups and pings are running"


class UserError(WireHubError):
    """Something the user can put right: what is wrong (the message), code, and where known a hint and a
    place."""

    default_code = Code.UNKNOWN

    def __init__(
        self, message: str, *, code: str | None = None, hint: str = "", place: str | None = None
    ) -> None:
        super().__init__(message, code=code or self.default_code, hint=hint, place=place)


def one_line(error: WireHubError) -> str:
    """All that is known of it, for a log: its place, its code, what to do."""
    place = f"{error.place}: " if error.place else ""
    hint = f" ({error.hint})" if error.hint else ""
    return f"{place}{error} [{error.code}]{hint}"


class UsageError(UserError):
    """A command line that is not understood."""

    default_code = Code.USAGE


class ConfigError(UserError):
    """One thing wrong with the network file; place is "file:line:column", line and column from 1."""

    default_code = Code.BAD_SETTING


class ConfigErrors(ConfigError):
    """Everything wrong with one network file, in the order of its lines; code, hint and place are the
    first's."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        first = errors[0]
        super().__init__(
            "\n".join(f"{error.place}: {error}" for error in errors),
            code=first.code,
            hint=first.hint,
            place=first.place,
        )
        self.errors = errors


class InvitationError(UserError):
    """An invitation that lets nobody in, with one of the codes WH14x and WH150."""

    default_code = Code.INVITATION_MALFORMED


class SystemSetupError(UserError):
    """This machine does not let us make the network usable."""

    default_code = Code.NETWORK_SETUP


class IpcError(UserError):
    """The conversation with the daemon failed."""

    default_code = Code.NO_DAEMON
