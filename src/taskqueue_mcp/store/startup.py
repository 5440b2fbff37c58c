"""What has to be true of a SQLite file before it is trusted with work; each refusal says why and what to do."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite

from taskqueue_mcp.errors import DatabaseRefused

SAFE_SQLITE = (3, 51, 3)
LEAST_FREE = 64 * 1024 * 1024
SMALLEST_DATABASE = 512
CHECKED_AT_START = 64 * 1024 * 1024
MOUNTS = Path("/proc/self/mounts")
SYNCED = (
    "OneDrive",
    "Dropbox",
    "Google Drive",
    "GoogleDrive",
    "My Drive",
    "iCloud Drive",
    "Mobile Documents",
    "CloudStorage",
    "Nextcloud",
    "ownCloud",
    "Syncthing",
    "pCloud Drive",
)
NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "9p", "ceph", "glusterfs", "lustre",
    "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.onedriver", "fuse.google-drive-ocamlfuse",
    "webdav", "davfs", "fuse.davfs",
}  # fmt: skip


def check_library(version: tuple[int, ...] = sqlite.sqlite_version_info) -> None:
    """Refuse a SQLite that can corrupt a WAL database written by two connections (3.7.0 to 3.51.2)."""
    if version < SAFE_SQLITE:
        have = ".".join(map(str, version))
        raise DatabaseRefused(
            f"SQLite {have} can corrupt a database that two processes write (fixed in 3.51.3); "
            "reinstall taskqueue-mcp with its pysqlite3 wheel: pip install --upgrade 'pysqlite3>=0.6.1'"
        )


def check_place(path: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a folder that a sync client or a network file system would break."""
    resolved = path.expanduser().resolve()
    roots = [Path(value).resolve() for name, value in os.environ.items() if name.startswith("OneDrive") and value]
    named = next((part for part in resolved.parts if _is_synced(part)), None)
    if named is None and any(root in resolved.parents for root in roots):
        named = "OneDrive"
    if named is not None:
        raise DatabaseRefused(
            f"the database {resolved} lies in a synced folder ({named}): sync clients copy a live database in "
            "pieces and lose work; keep it in a local folder (--database sqlite:////path/queue.db) and let only "
            "the output folder be synced"
        )
    kind = _file_system(resolved, mounts)
    if kind in NETWORK:
        raise DatabaseRefused(
            f"the database {resolved} lies on a network file system ({kind}), where SQLite's locks do not hold; "
            "keep it on a local disk"
        )


def prepare_file(path: Path) -> None:
    """Make the folder (0700) and the file (0600) if they are missing; refuse what others can read or we cannot write.

    Raises:
        DatabaseRefused: the path is a folder, unwritable, open to other users, or the disk is almost full.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        if not path.exists():  # else another process made the file a moment ago
            raise DatabaseRefused(
                f"cannot create the database {path}: {path.parent} is not a folder; choose another with --database"
            ) from error
    except OSError as error:
        raise DatabaseRefused(
            f"cannot create the database {path}: {error.strerror}; choose a writable folder with --database"
        ) from error
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise DatabaseRefused(f"{path} is not a regular file; give --database the path of a file")
    if sys.platform != "win32" and found.st_mode & 0o077:
        raise DatabaseRefused(
            f"the database {path} can be read by other users (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"run: chmod 600 {path}"
        )
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise DatabaseRefused(
            f"the database {path} is read-only for this user; give it back write permission or choose another file"
        )
    if 0 < found.st_size < SMALLEST_DATABASE:
        raise DatabaseRefused(f"{path} is not a database; it was left untouched: choose another file with --database")
    free = free_bytes(path)
    if free < LEAST_FREE:
        raise DatabaseRefused(
            f"only {free // 1_048_576} MiB are free on the disk of {path}; "
            f"free at least {LEAST_FREE // 1_048_576} MiB before starting"
        )


def free_bytes(path: Path) -> int:
    """Return how many bytes are free on the disk that holds `path`."""
    return shutil.disk_usage(path.parent).free


def check_content(connection: sqlite.Connection, path: Path, *, whole: bool = False) -> None:
    """Refuse a damaged file, and leave it as it is.

    A file above `CHECKED_AT_START` is read whole only when asked to (`doctor`, `restore`): at every start it would
    keep clients waiting.
    """
    pragma = "quick_check(1)" if whole or path.stat().st_size <= CHECKED_AT_START else "schema_version"
    try:
        found = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
    except sqlite.DatabaseError as error:
        raise DatabaseRefused(_damaged(path, str(error))) from error
    if found != "ok" and not isinstance(found, int):
        raise DatabaseRefused(_damaged(path, found))


def _damaged(path: Path, found: str) -> str:
    return (
        f"the database {path} is damaged or not a database ({' '.join(found.split())}); it was left untouched: "
        "restore a backup (taskqueue-mcp restore FILE) or choose another file"
    )


def _is_synced(part: str) -> bool:
    return any(part == name or part.startswith((name + " ", name + "-")) for name in SYNCED)


def _file_system(path: Path, mounts: Path) -> str:
    if str(path).startswith("\\\\"):
        return "smbfs"
    if not mounts.exists():
        return ""
    best, kind = -1, ""
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, where, found, *_ = line.split(" ")
        mount = Path(where.replace("\\040", " "))
        if (mount == path or mount in path.parents) and len(mount.parts) > best:
            best, kind = len(mount.parts), found
    return kind
