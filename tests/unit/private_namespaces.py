"""Whether this host lets anybody make namespaces."""

from wh.errors import SystemSetupError
from wh.net.private.namespace import PrivateNamespace


def refusal() -> str | None:
    """Why a private namespace cannot be made here."""
    made = PrivateNamespace()
    try:
        made.wait_until_ready()
    except SystemSetupError as error:
        return str(error)
    finally:
        made.close()
    return None
