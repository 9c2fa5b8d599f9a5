"""TLS between nodes: both sides prove who they are, after RFC 9325 (PS3.15 B.12)."""

import ssl
from pathlib import Path

from worker.config import Config
from worker.errors import ConfigError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2: forward secrecy and authenticated (RFC 9325)


def server_tls(config: Config) -> ssl.SSLContext | None:
    """For 'screen receive': who connects must have a certificate that our CA vouches for.

    `None` without the three files; raises ConfigError when one of them is missing or unfit.
    """
    return _context(config, ssl.PROTOCOL_TLS_SERVER)


def client_tls(config: Config) -> ssl.SSLContext | None:
    """For sending: the node must have such a certificate, for the name or address in `send_to`.

    `None` without the three files; raises ConfigError when one of them is missing or unfit.
    """
    return _context(config, ssl.PROTOCOL_TLS_CLIENT)


def _context(config: Config, side: int) -> ssl.SSLContext | None:
    named = {key: getattr(config.dicom, key) for key in ("tls_certificate", "tls_key", "tls_ca")}
    if not any(named.values()):
        return None
    missing = [f"dicom.{key}" for key, name in named.items() if not name]
    if missing:
        raise ConfigError(f"{missing[0]} is empty: TLS needs all three files, or none for no TLS")
    certificate, key, ca = (config.root / Path(name) for name in named.values())
    context = ssl.SSLContext(side)  # one for a client checks the host's name too
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(certificate, key, password="")
        context.load_verify_locations(ca)
    except OSError as error:
        why = getattr(error, "reason", None) or error.strerror or str(error)
        raise ConfigError(
            f"dicom.tls_certificate, tls_key, tls_ca: cannot be used together: {why}"
        ) from error
    return context
