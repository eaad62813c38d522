"""Making TUN interfaces (Linux Documentation/networking/tuntap.rst)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Sequence

from wh.errors import Code, SystemSetupError
from wh.system.interface_name import RULE, is_interface_name

TUN_DEVICE = "/dev/net/tun"

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_MULTI_QUEUE = 0x0100
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFF_TUN_EXCL = 0x8000  # refuse an interface that exists, also one whose queues we could join
_IFREQ = struct.Struct("16sH22x")  # struct ifreq: name, flags, rest of the union


def check_interface_name(name: str) -> None:
    """Raises SystemSetupError for what the kernel, `ip` or a shell would trip over."""
    if not is_interface_name(name):
        raise SystemSetupError(
            f"{name!r} is not a valid interface name",
            code=Code.BAD_INTERFACE_NAME,
            hint=RULE,
        )


def open_device() -> int:
    """A descriptor that is no interface yet. Raises OSError."""
    return os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def open_tun(name: str, *, queues: int = 1, open_device: Callable[[], int] = open_device) -> list[int]:
    """Make a TUN interface that lives as long as its fds, which belong to the caller.

    One non-blocking, close-on-exec fd a queue, IFF_NO_PI and IFF_VNET_HDR: every read and write is one IP
    packet, or one that stands for many, behind a virtio_net header (the data plane turns the offloads on).
    The interface is down and has no address. open_device: where it is to be in another network namespace,
    which is that of who opens the device. Raises SystemSetupError; nothing is left behind then.
    """
    check_interface_name(name)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    fds: list[int] = []
    try:
        for queue in range(queues):
            fd = open_device()
            fds.append(fd)
            fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags | (0 if queue else _IFF_TUN_EXCL)))
    except OSError as error:
        close_all(fds)
        raise _explain(error, name) from error
    return fds


def close_all(fds: Sequence[int]) -> None:
    """Close the fds of an interface that was not handed on, which deletes it."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _explain(error: OSError, name: str) -> SystemSetupError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return SystemSetupError(
            f"no permission to make the interface {name}",
            code=Code.NOT_PERMITTED,
            hint="run as root, or give the program CAP_NET_ADMIN (in a container: --cap-add NET_ADMIN)",
        )
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return SystemSetupError(
            f"this system has no {TUN_DEVICE}",
            code=Code.NO_TUN_DEVICE,
            hint=f"run `modprobe tun` (for a container: --device {TUN_DEVICE})",
        )
    # EINVAL: the name belongs to an interface that is no TUN, or one made with other flags
    if error.errno in (errno.EBUSY, errno.EEXIST, errno.EINVAL):
        return SystemSetupError(
            f"the interface {name} exists already",
            code=Code.INTERFACE_TAKEN,
            hint=f"choose another name, or remove it: ip link delete {name}",
        )
    return SystemSetupError(f"cannot make the interface {name}: {error.strerror}", code=Code.NETWORK_SETUP)
