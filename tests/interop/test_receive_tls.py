"""With three files both sides prove who they are, over TLS 1.2 at least; else nobody comes in."""

import logging
import socket
import ssl

import pytest
from pynetdicom import AE

from tests.interop.conftest import PEERS
from tests.interop.peers import content_of, films, run
from worker.errors import ConfigError
from worker.interop.contexts import VERIFICATION


@pytest.fixture
def secured(openssl, listening):
    """A receiver with TLS, and what a peer needs."""
    lines = PEERS + "".join(
        f'{key} = "{openssl[name]}"\n'
        for key, name in (
            ("tls_certificate", "us.pem"),
            ("tls_key", "us.key"),
            ("tls_ca", "ca.pem"),
        )
    )
    return listening(lines)


def context(openssl, name=None):
    made = ssl.create_default_context(cafile=openssl["ca.pem"])
    if name:
        made.load_cert_chain(openssl[f"{name}.pem"], openssl[f"{name}.key"])
    return made


@pytest.mark.usefixtures("dcmtk")
def test_storescu_with_a_certificate_of_our_ca_is_let_in(secured, openssl, inbox, tmp_path):
    (film,) = films(tmp_path / "films", 1)
    sent = run(
        "storescu", "+tls", openssl["peer.key"], openssl["peer.pem"], "+cf", openssl["ca.pem"],
        "-aec", "SCREEN", "127.0.0.1", secured.port, film,
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    assert [content_of(path) for path in inbox()] == [content_of(film)]


@pytest.mark.usefixtures("dcmtk")
@pytest.mark.parametrize("name", ["stranger", None])
def test_a_certificate_of_another_ca_or_none_is_turned_away(
    name, secured, openssl, inbox, tmp_path, caplog
):
    (film,) = films(tmp_path / "films", 1)
    own = ["+tls", openssl[f"{name}.key"], openssl[f"{name}.pem"]] if name else ["+tla"]
    with caplog.at_level(logging.INFO, "worker"):
        sent = run(
            "storescu", *own, "+cf", openssl["ca.pem"],
            "-aec", "SCREEN", "127.0.0.1", secured.port, film,
        )  # fmt: skip
    assert sent.returncode != 0
    assert inbox() == []
    assert {getattr(record, "slug", None) for record in caplog.records} & {"tls-certificate", "tls"}


@pytest.mark.usefixtures("dcmtk")
def test_who_speaks_no_tls_is_turned_away(secured, inbox, tmp_path):
    (film,) = films(tmp_path / "films", 1)
    assert run("storescu", "-aec", "SCREEN", "127.0.0.1", secured.port, film).returncode != 0
    assert inbox() == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_too_old(secured, openssl):
    old = context(openssl, "peer")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", secured.port), 10) as plain,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        old.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_handshake_that_never_comes_holds_nobody_up(secured, openssl):
    with socket.create_connection(("127.0.0.1", secured.port)):
        entity = AE("ECHOSCU")
        entity.add_requested_context(VERIFICATION)
        peer = entity.associate(
            "127.0.0.1",
            secured.port,
            ae_title="SCREEN",
            tls_args=(context(openssl, "peer"), "127.0.0.1"),
        )
        assert peer.is_established
        assert peer.send_c_echo().Status == 0
        peer.release()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('tls_certificate = "us.pem"\n', "tls_key is empty"),
        ('tls_certificate = "x.pem"\ntls_key = "x.key"\ntls_ca = "x.pem"\n', "No such file"),
    ],
)
def test_files_that_are_missing_are_said_at_the_start(lines, said, listening):
    with pytest.raises(ConfigError, match=said):
        listening(lines)


def test_a_key_that_is_another_s_is_said_at_the_start(openssl, listening):
    lines = (
        f'tls_certificate = "{openssl["us.pem"]}"\ntls_key = "{openssl["peer.key"]}"\n'
        f'tls_ca = "{openssl["ca.pem"]}"\n'
    )
    with pytest.raises(ConfigError, match="KEY_VALUES_MISMATCH"):
        listening(lines)
