"""Names by which a tool says: this is not a finished film, leave it alone.

What has such a name is neither moved nor read until it is renamed. Better a film that waits (and is
counted by `screen status`) than a half one that is screened, or a lock that vanishes under its
owner.
"""

_SUFFIXES = (
    ".part",  # Firefox, KDE, dcm4che's storescp, Nextcloud (.ocTransferId….part)
    ".partial",  # rclone, Aspera, old Edge
    ".filepart",  # WinSCP
    ".crdownload",  # Chrome, Edge
    ".crswap",  # Chrome, pages that write files
    ".opdownload",  # Opera
    ".download",  # Safari: a folder with the half file in it
    ".aria2",  # aria2's notes beside the half file
    ".!ut",
    ".!qb",
    ".ffs_tmp",  # FreeFileSync
    ".tmp",
    ".temp",
    ".swp",
    ".inprogress",
    ".incomplete",
    ".uploading",
    ".lock",
    ".lck",
    "~",  # backups of editors and of rsync --backup
    ":zone.identifier",  # the stream that Windows adds to downloads, as WSL copies it
    "\uf03azone.identifier",  # the same where CIFS maps the colon (mount.cifs(8))
)
_PREFIXES = (
    # All dot files: rsync's .name.XXXXXX and .~tmp~/, lftp's and ProFTPD's .in.name,
    # .syncthing.*.tmp, .goutputstream-*, LibreOffice's .~lock.name#, macOS' ._name and .DS_Store,
    # .nfs*, .smbdelete*, .fuse_hidden*, .snapshot/, .Trash-1000/
    ".",
    "~$",  # Office's owner files
    "~syncthing~",
)
_NAMES = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),  # made by showing a folder
        *("@eadir", "@recycle", "#recycle"),  # Synology, QNAP: thumbnails, and what was deleted
        *("$recycle.bin", "system volume information", "lost+found", "~snapshot"),
    }
)


def is_temporary(name: str) -> bool:
    """Whether a file's or folder's name says that it is not for us, whatever its case."""
    name = name.lower()
    return name in _NAMES or name.startswith(_PREFIXES) or name.endswith(_SUFFIXES)
