"""TLS as a coat for datagrams: TLS 1.3, and a certificate that proves nothing.

Who is at the other end the control session inside finds out (docs/protocol.md section 2); TLS only gets
through where nothing but the web does.
"""

from __future__ import annotations

import datetime
import os
import ssl

COMMON_NAME = "wirehub"
VALID_DAYS = 3650


def client_context() -> ssl.SSLContext:
    """Takes any certificate, and says no server name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_context() -> ssl.SSLContext:
    """With a certificate made now, whose key is never on a disk."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody resumes: there would be bytes for nothing after each handshake
    pem = os.memfd_create("certificate", os.MFD_CLOEXEC)  # the ssl module reads from paths only
    try:
        os.write(pem, _self_signed())
        context.load_cert_chain(f"/proc/self/fd/{pem}")
    finally:
        os.close(pem)
    return context


def _self_signed() -> bytes:
    """PEM: an ECDSA P-256 key and its certificate."""
    from cryptography import x509  # 50 ms that only who listens needs to take
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, COMMON_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
