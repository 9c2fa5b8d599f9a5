"""Identities that are worked out, so that whatever is done again has the same."""

import hashlib
import uuid

_NAMESPACE = uuid.UUID("5d0b6a4c-3f0e-5d3a-9a53-0c1f6a1d7b52")  # never to be changed


def model_identity(weights_sha256: str, preprocessing: str) -> str:
    """One hexadecimal name for weights and preprocessing together."""
    return hashlib.sha256(f"{weights_sha256}{preprocessing}".encode()).hexdigest()


def derived_uid(*parts: str) -> str:
    """The UID of what these parts name together: a UUID by name below 2.25 (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(parts)).int}"


def answer_uid(sha256: str, identity: str, kind: str) -> str:
    """SOP Instance UID of the answer of a kind ("sr", "sc") for a content by a model."""
    return derived_uid("answer", sha256, identity, kind)
