"""The command line of `0nc`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from whtools.znc.forward_words import ForwardWord, read_forward
from whtools.znc.outcome import EXIT_USAGE, Ended

USAGE = """\
usage: 0nc [OPTIONS]                 print an invitation, wait for the one who has it
       0nc [OPTIONS] INVITATION      connect; - reads it from standard input, and a file's
                                     name or the variable ZNC_INVITE serve as well
       0nc [OPTIONS] HOST PORT       plain TCP, as other netcats, to a host of a wh network
       0nc [OPTIONS] -l PORT         plain TCP, waiting

Joins the standard streams of two machines, encrypted, from one to the other. Needs no
root, no account and no server.

  -e, --exec CMD          join the stream to a command's instead, run by sh; ends with it
      --resume FILE       write to FILE, behind what a broken transfer left there
      --patience TIME     how long to wait for an end that is silent: 10m30s unless programs
                          get what comes (-e, a pipe): 30s
      --status            end with the command's status, at the end that says so
  -k, --keep-open         go on with the next one who connects (with -e: all at once)
      --send-only         take nothing from the other end
      --recv-only         send nothing
  -L [ADDR:]PORT:HOST:HPORT       listen here; the other end connects to HOST:HPORT
  -R [ADDR:]PORT:HOST:HPORT       the other end listens; connections are made from here
                          before each: udp:, tcp: (default); a path with / is a Unix socket
      --allow-forward     let the other end ask for -L and -R
  -w, --wait SECONDS      give up if nobody is there by then
      --idle SECONDS      end where nothing moves for so long
      --expires TIME      how long the invitation holds: 90s, 15m, 1h (default), 2d
      --qr                show the invitation as a QR code too
      --lan               stay in this network: only its addresses, and multicast
      --no-relay          only direct paths
      --bootstrap KEY@ADDRESS[:PORT]   a public node, to find each other beyond the LAN
      --progress          show rate, total and path
      --json              what happens, on standard error, as JSON
  -v, --verbose           say more; -q, --quiet: only errors and the invitation
  -l, --listen            plain TCP: wait on PORT (and an address: -l ADDR PORT)
  -h, --help              this text; --version

exit codes: 0 done, 1 input or output, 2 usage, 3 malformed invitation, 4 expired or
used, 5 unreachable, 6 authentication, 7 lost in mid-stream, 130 interrupted
"""

PASTED = re.compile(r"\W*wh2[a-z2-7]{40}", re.IGNORECASE)
"""How a word begins that no host has for a name."""

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DEFAULT_EXPIRES_S = 3600.0
DEFAULT_PATIENCE_S = 630.0
"""A pause of ten minutes, and half a minute to find each other again."""

PROGRAM_PATIENCE_S = 30.0
MAX_SECONDS = 10 * 365 * 86400.0


@dataclass(slots=True)
class Settings:
    words: list[str] = field(default_factory=list)
    listen: bool = False
    command: str | None = None
    keep_open: bool = False
    status: bool = False
    resume: str | None = None
    patience_s: float | None = None
    send_only: bool = False
    recv_only: bool = False
    local_forwards: list[ForwardWord] = field(default_factory=list)
    remote_forwards: list[ForwardWord] = field(default_factory=list)
    allow_forward: bool = False
    wait_s: float | None = None
    idle_s: float | None = None
    expires_s: float = DEFAULT_EXPIRES_S
    qr: bool = False
    lan: bool = False
    relay: bool = True
    bootstraps: list[str] = field(default_factory=list)
    progress: bool = False
    as_json: bool = False
    verbosity: int = 1
    help: bool = False
    version: bool = False

    @property
    def is_plain(self) -> bool:
        """HOST PORT or -l, and no invitation that was pasted as several words."""
        return self.listen or (len(self.words) == 2 and not self.pasted)

    @property
    def pasted(self) -> bool:
        return any(PASTED.match(word) for word in self.words)

    @property
    def forwards(self) -> bool:
        return bool(self.local_forwards or self.remote_forwards)


_FLAGS = {
    "-l": "listen",
    "--listen": "listen",
    "-k": "keep_open",
    "--keep-open": "keep_open",
    "--status": "status",
    "--send-only": "send_only",
    "--recv-only": "recv_only",
    "--allow-forward": "allow_forward",
    "--qr": "qr",
    "--lan": "lan",
    "--progress": "progress",
    "--json": "as_json",
    "-h": "help",
    "--help": "help",
    "--version": "version",
}
_WITH_VALUE = {
    "-e": "exec",
    "--exec": "exec",
    "-L": "local",
    "-R": "remote",
    "-w": "wait",
    "--wait": "wait",
    "--idle": "idle",
    "--resume": "resume",
    "--patience": "patience",
    "--expires": "expires",
    "--bootstrap": "bootstrap",
}


def usage_error(message: str) -> Ended:
    return Ended(EXIT_USAGE, message, code="WH130", hint="0nc --help")


def parse(arguments: list[str]) -> Settings:
    """Raises Ended with EXIT_USAGE. Options may stand anywhere; one-letter ones may be joined."""
    settings = Settings()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            settings.words += rest
            break
        if not word.startswith("-") or word == "-":
            settings.words.append(word)
            continue
        name, equals, value = word.partition("=")
        if not word.startswith("--") and len(word) > 2:
            rest.insert(0, word[2:] if word[:2] in _WITH_VALUE else "-" + word[2:])
            name, equals = word[:2], ""
        if name in _WITH_VALUE:
            if not equals and not rest:
                raise usage_error(f"{name} needs a value")
            _set(settings, name, value if equals else rest.pop(0))
        elif equals:
            raise usage_error(f"{name} takes no value" if name in _FLAGS else f"unknown option {name}")
        else:
            _switch(settings, name)
    _check(settings)
    return settings


def _switch(settings: Settings, name: str) -> None:
    if name in _FLAGS:
        setattr(settings, _FLAGS[name], True)
    elif name == "--no-relay":
        settings.relay = False
    elif name in ("-v", "--verbose"):
        settings.verbosity += 1
    elif name in ("-q", "--quiet"):
        settings.verbosity = 0
    else:
        raise usage_error(f"unknown option {name}")


def _set(settings: Settings, name: str, value: str) -> None:
    match _WITH_VALUE[name]:
        case "exec":
            settings.command = value
        case "local":
            settings.local_forwards.append(_forward(name, value))
        case "remote":
            settings.remote_forwards.append(_forward(name, value))
        case "wait":
            settings.wait_s = read_time(name, value)
        case "idle":
            settings.idle_s = read_time(name, value)
        case "resume":
            settings.resume = value
        case "patience":
            settings.patience_s = read_time(name, value)
        case "expires":
            settings.expires_s = read_time(name, value)
        case "bootstrap":
            settings.bootstraps.append(value)


def _forward(name: str, value: str) -> ForwardWord:
    try:
        return read_forward(value)
    except ValueError as error:
        raise usage_error(f"{name} {value}: {error}") from None


def read_time(name: str, text: str) -> float:
    """Seconds, as in 90, 90s, 1.5m, 2h, 1d. Raises Ended."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise usage_error(f"{name} {text}: write a time as in 90s, 15m, 1h or 2d")
    return seconds


def _check(settings: Settings) -> None:
    if settings.help or settings.version:
        return
    if settings.send_only and settings.recv_only:
        raise usage_error("--send-only and --recv-only leave nothing to do")
    if settings.command is not None and (settings.send_only or settings.recv_only or settings.forwards):
        raise usage_error("-e goes without --send-only, --recv-only, -L and -R")
    plain = settings.is_plain
    if settings.resume is not None and (
        plain or settings.keep_open or settings.send_only or settings.forwards or settings.command is not None
    ):
        raise usage_error("--resume is for one stream that comes from another 0nc")
    if plain and (settings.forwards or settings.allow_forward or settings.qr or settings.bootstraps):
        raise usage_error("HOST PORT and -l are plain TCP: no forwards, no invitation")
    if settings.listen and not 1 <= len(settings.words) <= 2:
        raise usage_error("-l needs a port")
    if not settings.listen and len(settings.words) > 2 and not settings.pasted:
        raise usage_error("too many words")
