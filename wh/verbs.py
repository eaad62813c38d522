"""What the daemon does for its command line: the verbs of wh.ipc.schema.

A verb translates: words to keys, engine notices to results. What it asks for is done by the node, the runner or the
daemon.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from wh.commands import Notify
from wh.errors import Code, UserError
from wh.events import Event, ForgetRequested, Key, LookupRequested, PingRequested
from wh.ipc import schema
from wh.ipc.server import Handler, Progress
from wh.naming.table import NameEntry, NameTable
from whcore.keys import encode_key
