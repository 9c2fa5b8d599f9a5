"""Every error of the worker: what was found, what was expected, what to do.

ScreenError                     exit 1
├── UsageError                  exit 2  usage
│   ├── ConfigError             exit 2  bad-config
│   └── NotASite                exit 2  not-a-site
├── SiteBusy                    exit 1  site-busy
├── ShareGone                   exit 1  share-gone
├── WrongArchive                exit 1  wrong-archive
├── NothingRead                 exit 1  nothing-read
├── NothingLearned              exit 1  nothing-learned
├── NoOperatingPoint            exit 1  no-operating-point
├── ExportFailed                exit 1  export-failed
├── StaleFailure                exit 1  stale-failure
├── DecoderUnavailable          exit 1  decoder-unavailable
├── DeviceLost                  exit 1  device-lost
├── ClusterLost                 exit 1  cluster-lost
├── StoreError                  exit 1  database
│   ├── NetworkFilesystem       exit 2  network-filesystem
│   └── LeaseLost               exit 1  lease-lost
└── FilmError                   exit 3  one film's failure, never the program's
    ├── NotAFilm                        not-a-film
    ├── TruncatedFile                   truncated-file
    ├── CorruptFile                     corrupt-file
    ├── NoPixelData                     no-pixel-data
    ├── UnsupportedTransferSyntax       unsupported-transfer-syntax
    ├── TooLarge                        too-large
    ├── UnreadableFile                  unreadable-file
    ├── DecoderCrashed                  decoder-crashed       (a strike)
    ├── DecoderTimeout                  decoder-timeout       (a strike)
    ├── ChangedFile                     changed-file
    ├── Quarantined                     quarantined
    └── LostFile                        lost-file

`models.errors.ModelError` (exit 1; exit 2 if there is no such model) stands beside this tree,
because `models` never imports `worker`.
Slugs are stable: scripts and the `failures` table depend on them.
"""

from typing import ClassVar


class ScreenError(Exception):
    """Base of all errors that the program explains to its user in one line."""

    slug: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1


class UsageError(ScreenError):
    """The command was called in a way that cannot work."""

    slug = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """A key of the configuration is unknown or its value is not allowed."""

    slug = "bad-config"


class NotASite(UsageError):
    """The folders of a site are not where the configuration says."""

    slug = "not-a-site"


class SiteBusy(ScreenError):
    """Another worker already holds this site."""

    slug = "site-busy"


class ShareGone(ScreenError):
    """A folder of the site is not the one that was marked: a share is not mounted, say."""

    slug = "share-gone"


class WrongArchive(ScreenError):
    """Another folder lies in the place of an archive; waiting would not help."""

    slug = "wrong-archive"


class NothingRead(ScreenError):
    """Not one file of the request could be read."""

    slug = "nothing-read"


class NothingLearned(ScreenError):
    """A training ended with a network that does not tell the classes apart."""

    slug = "nothing-learned"


class NoOperatingPoint(ScreenError):
    """Labelled films cannot support a threshold of the site's own."""

    slug = "no-operating-point"


class ExportFailed(ScreenError):
    """A format cannot take the network, or the export answers otherwise than its model."""

    slug = "export-failed"


class StaleFailure(ScreenError):
    """A failed film is not where the database says, so nothing can be done with it."""

    slug = "stale-failure"


class DecoderUnavailable(ScreenError):
    """The decoder processes do not start or were closed; no film is to blame."""

    slug = "decoder-unavailable"


class DeviceLost(ScreenError):
    """The CUDA device failed under the network; no film is to blame."""

    slug = "device-lost"


class ClusterLost(ScreenError):
    """The Ray cluster cannot be reached, has no place for us, or is not one of equals."""

    slug = "cluster-lost"


class StoreError(ScreenError):
    """The database could not be opened, migrated or written."""

    slug = "database"


class NetworkFilesystem(StoreError):
    """The SQLite file lies on a network filesystem, where its locks cannot be trusted."""

    slug = "network-filesystem"
    exit_code = 2


class LeaseLost(StoreError):
    """The worker was paused or cut off for so long that others may have taken its films."""

    slug = "lease-lost"


class FilmError(ScreenError):
    """One film could not be decoded; the others go on."""

    slug = "film"
    exit_code = 3
    advice: ClassVar[str]  # what to do about it, in one sentence, for whoever finds it in failed/
    is_strike: ClassVar[bool] = False  # counted against the film; at the limit it is quarantined
    may_pass: ClassVar[bool] = False  # may succeed later although the file stays as it is


class NotAFilm(FilmError):
    """The content is neither JPEG, PNG nor DICOM with a picture."""

    slug = "not-a-film"
    advice = "Nothing, or convert it to JPEG, PNG or DICOM."


class TruncatedFile(FilmError):
    """The file ends before its picture does."""

    slug = "truncated-file"
    advice = "Copy it again, whole."


class CorruptFile(FilmError):
    """The file claims to be a film, but its content contradicts itself or cannot be decoded."""

    slug = "corrupt-file"
    advice = "Export it again."


class NoPixelData(FilmError):
    """A DICOM object without a picture (a report, a plan, a directory)."""

    slug = "no-pixel-data"
    advice = "Nothing; if it should hold a picture, copy it again."


class UnsupportedTransferSyntax(FilmError):
    """No installed decoder reads this DICOM transfer syntax."""

    slug = "unsupported-transfer-syntax"
    advice = "Install the extra that the message names, then retry it."
    may_pass = True


class TooLarge(FilmError):
    """The file, or the picture its header claims, is larger than the configured limit."""

    slug = "too-large"
    advice = "If the film is genuine, raise the limit in [decode], then retry it."
    may_pass = True


class UnreadableFile(FilmError):
    """The operating system did not let the file be read."""

    slug = "unreadable-file"
    advice = "Check its rights, then retry it."
    may_pass = True


class DecoderCrashed(FilmError):
    """The decoder process died while it held this film."""

    slug = "decoder-crashed"
    advice = "Nothing: it is tried again."
    is_strike = True


class DecoderTimeout(FilmError):
    """The decoder process did not finish this film in time."""

    slug = "decoder-timeout"
    advice = "Nothing: it is tried again."
    is_strike = True


class ChangedFile(FilmError):
    """The file changed between its hash and its decoding: somebody still writes it."""

    slug = "changed-file"
    advice = "Feed it in again when it is whole."
    may_pass = True


class Quarantined(FilmError):
    """The film took the decoder or the worker down too often to be tried again."""

    slug = "quarantined"
    advice = "Look at it by hand, with another viewer."


class LostFile(FilmError):
    """The file was there when it was recorded and is gone now."""

    slug = "lost-file"
    advice = "Feed it in again."
    may_pass = True


def passing_slugs() -> list[str]:
    """Slugs of failures that a backfill tries again when it is run again."""
    return [kind.slug for kind in FilmError.__subclasses__() if kind.may_pass]


def advice_for(slug: str) -> str:
    """What to do about a failure with this slug; empty where nothing is known."""
    return {kind.slug: kind.advice for kind in FilmError.__subclasses__()}.get(slug, "")


def film_error(slug: str, message: str) -> FilmError:
    """Make the film error that has this slug, as a decoder process names it across the pipe.

    An unknown slug gives `CorruptFile`: the decoder is not trusted to invent outcomes.
    """
    kinds = {kind.slug: kind for kind in FilmError.__subclasses__()}
    return kinds.get(slug, CorruptFile)(message)
