"""Other nodes as the configuration names them, and who of them may come in."""

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from worker.errors import ConfigError

ANYWHERE = "*"
_TITLE = "[A-Za-z0-9_.+/-][A-Za-z0-9_.+/ -]{0,15}"  # a subset of what PS3.5 6.2 (VR AE) allows
_HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+"
_NODE = re.compile(rf"({_TITLE})@({_HOST}):([0-9]{{1,5}})")
_PEER = re.compile(rf"({_TITLE})@({_HOST}|\*)")


@dataclass(frozen=True)
class Node:
    """An application entity that answers are sent to."""

    title: str
    host: str
    port: int


def node(text: str, key: str = "dicom.send_to") -> Node:
    """Read "AE@host:port". Raises ConfigError naming the key."""
    match = _NODE.fullmatch(text)
    if not match or not 1 <= int(match[3]) <= 65_535:
        raise ConfigError(f"{key} = {text!r}: must be as 'PACS@pacs.example:11112'")
    return Node(match[1].rstrip(), match[2].strip("[]"), int(match[3]))


class Peers:
    """Who may send films: pairs of a title and an address.

    Titles are no secret and prove nothing: they tell nodes apart. Names of hosts are looked up
    once, here. Raises ConfigError for what is no "AE@host", or a host that has no address.
    """

    def __init__(self, peers: Sequence[str]) -> None:
        self._pairs = {pair for text in peers for pair in _pairs(text)}
        self._addresses = {address for _, address in self._pairs}

    def __len__(self) -> int:
        """Pairs of a title and an address."""
        return len(self._pairs)

    def may_connect(self, address: str) -> bool:
        """Whether any peer has this address."""
        return bool({ANYWHERE, _plain(address)} & self._addresses)

    def may_send(self, title: str, address: str) -> bool:
        """Whether a peer of this title has this address."""
        return bool({(title, ANYWHERE), (title, _plain(address))} & self._pairs)


def _pairs(text: str) -> set[tuple[str, str]]:
    match = _PEER.fullmatch(text)
    if not match:
        raise ConfigError(f"dicom.peers: {text!r} must be as 'CR1@10.0.0.7', or 'CR1@*'")
    title, host = match[1].rstrip(), match[2].strip("[]")
    if host == ANYWHERE:
        return {(title, ANYWHERE)}
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"dicom.peers: {text!r}: {host} has no address ({error})") from error
    return {(title, _plain(str(place[0]))) for *_, place in found}


def _plain(address: str) -> str:
    """One way to write an address: IPv4 within IPv6 as IPv4, no zone."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(parsed)
