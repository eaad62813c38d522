"""noiseprotocol, as the other end of our handshakes."""

from noise.connection import Keypair, NoiseConnection


def noise_connection(
    name: bytes, prologue: bytes, secret: bytes, psk: bytes | None, remote_static: bytes | None = None
) -> NoiseConnection:
    """name: of the protocol. The initiator where remote_static is given."""
    connection = NoiseConnection.from_name(name)
    connection.set_prologue(prologue)
    connection.set_keypair_from_private_bytes(Keypair.STATIC, secret)
    if psk is not None:
        connection.set_psks(psk=psk)
    if remote_static is None:
        connection.set_as_responder()
    else:
        connection.set_as_initiator()
        connection.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, remote_static)
    connection.start_handshake()
    return connection
