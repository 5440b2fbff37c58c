"""What a `postgresql://` URL says: where the database is, and how we use it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from psycopg import conninfo

from taskqueue_mcp.errors import SettingsRefused

OWN = ("pool", "schema", "hint", "prepare")
SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
MOST_CONNECTIONS = 100
GIVEN = {
    "application_name": "taskqueue-mcp",
    "keepalives_idle": "20",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""What libpq is told unless the URL says something else. A network that swallows everything is noticed in seconds; the
operating system alone would wait for a quarter of an hour."""
FIXED = {"client_encoding": "utf8"}
"""Whatever a role or a database has for its own."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the database is (`dsn`, for libpq), how many connections a process opens, and which helps it uses.

    `hint` is whether commits are told to other servers by NOTIFY, `prepare` whether statements are prepared; both
    need a connection that is not pooled in transaction mode, and None means to find that out.
    """

    dsn: str
    place: str
    schema: str = "taskqueue"
    pool: int = 8
    hint: bool | None = None
    prepare: bool | None = None


def read(url: str) -> Address:
    """Read `postgresql://[user[:password]@]host[:port]/database[?pool=8&schema=taskqueue&hint=auto&prepare=auto&…]`.

    Other options go to libpq (`sslmode`, `sslrootcert`, `target_session_attrs`, …).

    Raises:
        SettingsRefused: the URL is not understood.
    """
    parts = _split(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    own = {name: value for name, value in options if name in OWN}
    ours = dict(GIVEN)
    if "," in parts.netloc:  # of several servers, the one that takes writes
        ours["target_session_attrs"] = "read-write"
    theirs = {**ours, **{name: value for name, value in options if name not in OWN}, **FIXED}
    dsn = f"postgresql://{parts.netloc}{parts.path}?{urlencode(theirs, quote_via=quote)}"
    try:
        known = conninfo.conninfo_to_dict(dsn)
    except Exception as error:
        raise SettingsRefused(f"--database: this is no PostgreSQL URL ({_plain(error)}); {_EXAMPLE}") from error
    if not known.get("dbname"):
        raise SettingsRefused(f"--database: the URL names no database; {_EXAMPLE}")
    schema = own.get("schema", "taskqueue")
    if not SCHEMA.fullmatch(schema):
        raise SettingsRefused("--database: ?schema= takes a plain lower-case name, such as taskqueue")
    pool = own.get("pool", "8")
    if not pool.isdecimal() or not 1 <= int(pool) <= MOST_CONNECTIONS:
        raise SettingsRefused(f"--database: ?pool= takes a number of connections from 1 to {MOST_CONNECTIONS}")
    host = known.get("host") or known.get("hostaddr") or "the local socket"
    place = f"{known['dbname']!r} at {host}" + (f":{known['port']}" if known.get("port") else "")
    return Address(dsn, place, schema, int(pool), _switch(own, "hint"), _switch(own, "prepare"))


_EXAMPLE = "use postgresql://user:password@host:5432/database"


def _split(url: str) -> SplitResult:
    """Take a URL apart; one with a password whose special characters cut it is refused before any of it is told."""
    parts = urlsplit(url)
    ports = [host.rpartition("]")[2].partition(":")[2] for host in parts.netloc.rpartition("@")[2].split(",")]
    if parts.netloc.count("@") > 1 or "@" in parts.path or parts.fragment or any(map(_is_no_number, ports)):
        raise SettingsRefused(
            "--database: the URL is not understood; special characters in the user or the password are written %XX "
            f"(@ %40, : %3A, / %2F, ? %3F, # %23); {_EXAMPLE}"
        )
    return parts


def _is_no_number(text: str) -> bool:
    return text != "" and not text.isdecimal()


def _switch(options: dict[str, str], name: str) -> bool | None:
    known = {"auto": None, "on": True, "off": False}
    value = options.get(name, "auto")
    if value not in known:
        raise SettingsRefused(f"--database: ?{name}= takes auto, on or off")
    return known[value]


def _plain(error: Exception) -> str:
    return " ".join(str(error).split())
