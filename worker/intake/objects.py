"""Archives in object stores, by fsspec: listed in pages, fetched object by object.

Credentials come from where the store's own package looks for them (for S3: environment, profile,
the machine's role), never from a URL: URLs stand in the database and on pages.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from worker.errors import LostFile, UnreadableFile, UsageError
from worker.intake.archive import Archive
from worker.intake.found import Found

_S3 = ("s3", "s3a")
_OPTIONS = {"use_listings_cache": False, "skip_instance_cache": False}
_MODIFIED = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
_PAGE_KEYS = 1000  # the most that S3 gives at once
_OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

Info = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """What lies below a URL such as `s3://bucket/prefix`."""

    url: str

    @property
    def source(self) -> str:
        """The URL, without the slash that may end it."""
        return self.url.rstrip("/")

    def files(
        self, on_error: Callable[[OSError], None], after: bytes | None = None
    ) -> Iterator[Found]:
        """Every object, in the order of the store's keys; those after a `Found.place`.

        Empty objects that stand for folders are left out. What cannot be listed goes to `on_error`.
        """
        scheme, _, _ = self.source.partition("://")
        fs, root = _opened(self.source)
        last = after.decode().removeprefix(f"{scheme}://") if after else ""
        found = _keys(fs, root, last) if scheme in _S3 else _walk(fs, root, last)
        try:
            with _asking(self.source):
                for name, size, mtime_ns in found:
                    if not (name.endswith("/") and size == 0):
                        yield _found(self.source, f"{scheme}://{name}", size, mtime_ns)
        except OSError as error:
            on_error(error)


def has_objects(archives: Sequence[Archive]) -> bool:
    """Whether some of these lie in object stores."""
    return any(isinstance(archive, Objects) for archive in archives)


def archive_at(url: str) -> Objects:
    """The archive that somebody named by its URL. Raises UsageError when it cannot be one."""
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0]
    if "@" in authority or "::" in url or ("?" in rest and scheme in ("http", "https")):
        raise UsageError(
            "a URL with a user, a password, a query or another URL in it is refused: it would "
            "stand in the database and on pages; give credentials as the store's package takes "
            "them, for S3 in AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if scheme in ("file", "local") or not authority:
        raise UsageError(f"{scheme}:// is no object store: give folders by their path")
    archive = Objects(url)
    _opened(archive.source)
    return archive


def require_listable(archive: Objects) -> None:
    """Raise OSError unless the store lets us list what is there."""
    refusals: list[OSError] = []
    next(archive.files(refusals.append), None)
    if refusals:
        raise refusals[0]


def fetch(url: str, target: Path, source: str) -> None:
    """Write an object's bytes into a file that is there.

    Raises LostFile or UnreadableFile where this one object is to blame, and OSError where the
    store, or our disk, is: a store that refuses to list says nothing of its films.
    """
    fs, name = _opened(url)
    try:
        with _asking(url):
            fs.get_file(name, os.fspath(target))
            size, whole = target.stat().st_size, fs.size(name)
            if whole is not None and size != whole:  # some web servers do not say
                raise OSError(errno.EIO, "the object store gave fewer bytes than there are", url)
    except FileNotFoundError as error:
        require_listable(Objects(source))
        raise LostFile("the object is not there: feed it in again") from error
    except PermissionError as error:
        require_listable(Objects(source))
        raise UnreadableFile(
            "the object store lists this object and does not give it: check rights, and whether it "
            "was put into cold storage"
        ) from error


def may_pass(error: OSError) -> bool:
    """Whether it is worth to ask the store again after a while: throttled, cut off, overloaded."""
    return error.errno not in (*_OUR_DISK, errno.EACCES, errno.EPERM, errno.ENOENT)


def blame(error: OSError, source: str) -> UnreadableFile:
    """What says that one object fails for ever, not its store.

    Raises OSError when the store does not list what is there: it says nothing of its films then.
    """
    require_listable(Objects(source))
    return UnreadableFile(
        "the object store lists this object and goes on failing to give it "
        f"({os.strerror(error.errno or errno.EIO)}): check its encryption key and its encoding"
    )


def _opened(url: str) -> tuple[Any, str]:
    """The store behind a URL, and the name there. Raises UsageError without its package."""
    try:
        from fsspec.core import url_to_fs

        scheme = url.partition("://")[0]
        fs, name = url_to_fs(url, **(_OPTIONS if scheme in _S3 else {}))
    except ImportError as error:
        extra = "'cxr-screen[s3]'" if url.startswith(_S3) else "what it names"
        what = f"no package for this object store ({error}): pip install {extra}"
        raise UsageError(what) from error
    except ValueError as error:
        raise UsageError(f"no object store is known by this URL: {error}") from error
    return fs, name


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Turn what a store's package raises into OSError, without what it says of credentials."""
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        number = errno.ENOENT if isinstance(error, FileNotFoundError) else errno.EACCES
        raise OSError(number, f"the object store says: {os.strerror(number)}", url) from error
    except OSError as error:
        if error.errno in _OUR_DISK:
            raise
        number = error.errno or errno.EIO
        raise OSError(number, f"the object store failed: {os.strerror(number)}", url) from error
    except Exception as error:  # of its HTTP client
        what = type(error).__name__
        number = errno.EACCES if "Credentials" in what else errno.EIO
        raise OSError(number, f"the object store failed ({what})", url) from error


def _keys(fs: Any, root: str, after: str) -> Iterator[tuple[str, int, int]]:
    """(bucket/key, size, time in ns) in pages, from the store's own index (ListObjectsV2)."""
    bucket, _, key = root.partition("/")
    asked: Info = {"Bucket": bucket, "Prefix": key, "MaxKeys": _PAGE_KEYS}
    if after:
        asked["StartAfter"] = after.removeprefix(f"{bucket}/")
    while True:
        page = fs.call_s3("list_objects_v2", **asked)
        for each in page.get("Contents", ()):
            name = each["Key"]
            if not key or name == key or name.startswith(f"{key}/"):
                yield f"{bucket}/{name}", each["Size"], _ns(each["LastModified"])
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _walk(fs: Any, root: str, after: str) -> Iterator[tuple[str, int, int]]:
    """The same of any store, folder by folder, sorted by the bytes of their names."""
    below = after.removeprefix(root.lstrip("/")).strip("/")
    levels = [_level(fs, root, below.encode().split(b"/") if below else [])]
    while levels:
        entries, names = levels[-1]
        info = next(entries, None)
        if info is None:
            levels.pop()
            continue
        on_the_way = bool(names) and _base(info) == names[0]
        if info["type"] == "directory":
            levels.append(_level(fs, info["name"], names[1:] if on_the_way else []))
        elif not (on_the_way and len(names) == 1):
            yield info["name"].lstrip("/"), info["size"] or 0, _modified_ns(info)


def _level(fs: Any, folder: str, names: Sequence[bytes]) -> tuple[Iterator[Info], Sequence[bytes]]:
    listed = [each for each in fs.ls(folder, detail=True) if not names or _base(each) >= names[0]]
    return iter(sorted(listed, key=_base)), names


def _base(info: Info) -> bytes:
    return bytes(info["name"].rstrip("/").rpartition("/")[2].encode())


def _modified_ns(info: Info) -> int:
    """When an object was written, in ns; 0 where the store does not say."""
    value = next((info[name] for name in _MODIFIED if info.get(name)), None)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return _ns(value) if isinstance(value, datetime) else int((value or 0) * 1e9)


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def _found(source: str, url: str, size: int, mtime_ns: int) -> Found:
    """An object; a text that any database holds has no NUL."""
    return Found(source, url.replace("\0", "\\x00"), Path(), size, mtime_ns, url=url)
