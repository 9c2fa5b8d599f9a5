"""What is kept of who the patient is: nothing, a keyed hash, or name and ID as they are."""

import hmac
import json
import re
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from worker.config import Dicom
from worker.errors import ConfigError
from worker.filesystem import move_new, read_secret, sync_folder, write_atomic
from worker.records import IDENTIFYING, Identity, Patient, PreparedFilm, Tags

_KEY_BYTES = 32
_KEY_CHARS = 32  # hexadecimal digits of the hash: 128 bits
# IDs that stand for no patient in particular: whoever bears them is not the same person.
_NOBODY = re.compile(
    r"[\W0_]*|(UNKNOWN|ANON|ANONYM[A-Z]*|NONE|NULL|N/?A|NO ?ID|X+|TEST|DUMMY)\W*", re.IGNORECASE
)


class Patients:
    """Turns what a decoder read of a patient into what the site keeps."""

    def __init__(self, dicom: Dicom) -> None:
        """Read the site's key, and make it if it is not there and will be needed.

        Raises ConfigError when it cannot be made or read, or is not for us alone.
        """
        self._identity = dicom.identity
        self._key = b"" if self._identity == "off" else _site_key(dicom.identity_key_file)

    def known(self, film: PreparedFilm) -> PreparedFilm:
        """The film with the patient in its tags as the site wants it, and nowhere else."""
        if self._identity == "off":
            return replace(film, patient=Patient())
        who = film.patient
        tags = replace(film.tags, patient_key=self._key_of(who))
        if self._identity == "clear":
            tags = replace(
                tags,
                patient_id=who.patient_id,
                patient_name=who.patient_name,
                accession_number=who.accession_number,
            )
        return replace(film, tags=tags, patient=Patient())

    def _key_of(self, who: Patient) -> str | None:
        """HMAC-SHA256 of issuer and ID, cut to 32 hexadecimal digits; `None` for nobody's ID.

        The same ID of two issuers is two patients (PS3.3 C.7.1.1). Otherwise an ID counts as it is
        written: one patient taken for two does less harm than two taken for one.
        """
        if who.patient_id is None or _NOBODY.fullmatch(who.patient_id):
            return None
        message = json.dumps([who.issuer_of_patient_id or "", who.patient_id]).encode()
        return hmac.new(self._key, message, "sha256").hexdigest()[:_KEY_CHARS]


def shown(tags: Tags, identity: Identity) -> Tags:
    """The tags of a stored film as pages may show them now, whatever was kept when it came."""
    hidden: dict[Identity, tuple[str, ...]] = {
        "off": IDENTIFYING,
        "pseudonym": tuple(name for name in IDENTIFYING if name != "patient_key"),
        "clear": (),
    }
    return replace(tags, **dict.fromkeys(hidden[identity]))


KEY_LOST = (
    "the key of patients is missing though the database has films of patients: with a new one, "
    "films of before and after are not known to be of one patient"
)


def is_key_there(file: Path) -> bool:
    """Whether the site has its key; raises ConfigError as reading it does."""
    return _read_key(file) is not None


def key_state(file: Path) -> str:
    """What `screen doctor` says of the key; raises ConfigError as reading it does."""
    return "its key is there" if is_key_there(file) else "its key is made when films are screened"


def _site_key(file: Path) -> bytes:
    """The site's key; a new one is on the disk, under its name, before it is used."""
    key = _read_key(file)
    if key is not None:
        sync_folder(file.parent)  # whoever made it may have been cut off before
        return key
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    try:
        write_atomic(new, f"{secrets.token_hex(_KEY_BYTES)}\n".encode(), 0o600, sync=True)
        with suppress(FileExistsError):  # another process was faster: its key counts
            move_new(new, file)
        new.unlink(missing_ok=True)
        sync_folder(file.parent)
    except OSError as error:
        raise ConfigError(f"cannot make the key of patients, {file}: {error}") from error
    key = _read_key(file)
    if key is None:
        raise ConfigError(f"the key of patients, {file}, was removed as soon as it was made")
    return key


def _read_key(file: Path) -> bytes | None:
    """The key in a file, `None` if there is none. Raises ConfigError for one that is no key."""
    text = read_secret(file, "the key of patients")
    if text is None:
        return None
    if not re.fullmatch(f"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
        raise ConfigError(
            f"{file} is no key of {2 * _KEY_BYTES} hexadecimal digits: restore it from a backup; "
            "with a new one, films of before and after are not known to be of one patient"
        )
    return bytes.fromhex(text)
