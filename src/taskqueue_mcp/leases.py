"""Leases: `T-142.3.<26 lowercase base32>` is the right to write attempt 3 of task 142. Only its hash is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from taskqueue_mcp.errors import InvalidInput

SECRET_BYTES = 16
LEASE = re.compile(r"T-([1-9][0-9]{0,17})\.([1-9][0-9]{0,8})\.([a-z2-7]{26})")


@dataclass(frozen=True, slots=True)
class Lease:
    """A parsed lease: which attempt of which task, and the hash of its secret."""

    task_id: int
    attempt: int
    hash: str


def parse(text: str) -> Lease:
    """Read a lease.

    Raises:
        InvalidInput: it does not look like one.
    """
    match = LEASE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput("lease: not a lease; pass the `lease` that claim_task returned, unchanged")
    return Lease(int(match[1]), int(match[2]), digest(match[3]))


def new_secret(claim_id: str | None, salt: str) -> str:
    """Return the secret of an attempt's lease; the same `claim_id` and `salt` give the same one again."""
    if claim_id is None:
        secret = secrets.token_bytes(SECRET_BYTES)
    else:
        secret = hmac.digest(salt.encode(), claim_id.encode(), hashlib.sha256)[:SECRET_BYTES]
    return base64.b32encode(secret).decode().rstrip("=").lower()


def write(task_id: int, attempt: int, secret: str) -> str:
    """Return the lease of an attempt."""
    return f"T-{task_id}.{attempt}.{secret}"


def new_salt() -> str:
    """Return fresh salt for an attempt."""
    return secrets.token_hex(SECRET_BYTES)


def digest(text: str) -> str:
    """Return what is stored of a lease or a token."""
    return hashlib.sha256(text.encode()).hexdigest()
