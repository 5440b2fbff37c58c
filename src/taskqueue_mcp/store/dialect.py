"""What differs between the engines in a statement: a handful of named tokens, rendered once per text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from taskqueue_mcp.store import words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from taskqueue_mcp.store.database import Params

PASSING = " FOR NO KEY UPDATE SKIP LOCKED"
PASSING_GATES = " AND (NOT {among:tasks.executor:closed} OR tasks.id IN (SELECT task_id FROM gate_passes))"
TOKEN = re.compile(r"\{(\w+)(?::([\w.]+):(\w+))?\}")
NAME = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


class Compiled(NamedTuple):
    """A statement as its driver wants it: numbers for names, and what picks their values in that order."""

    text: str
    pick: Callable[[Params], tuple[Any, ...]]
    timed: bool
    """Whether the clock follows the values."""
    writes: bool


@dataclass(slots=True)
class Dialect:
    """Renders the tokens of the one SQL text that both engines share; what was rendered is remembered.

    `{word}` is one of `words`. `{among:column:parameter}` is "the column is one of the list bound as :parameter".
    `{next:column:queues}` selects, and locks, the id of the ready task to be claimed next: of the open queues (`any`)
    or those of the list :queues (`named`), and, unless the column is `any`, where it is one of the list :wanted.
    `{passing:column:queues}` is the same, without those that the list :closed keeps back by their executor.
    `{ready:column:queues}` is "the id is one of the first `:reach` in that order after `:sort_at` and `:after`".
    """

    words: dict[str, str]
    among: str
    picks: dict[str, Callable[[str, str], str]]
    mark: str
    as_list: Callable[[Any], Any]
    as_words: Callable[[str], Any]
    """What is stored of a text to find it by its words."""
    match: Callable[[Sequence[str], bool], str]
    """What finds the texts with all of some words, the last of which may be only the start of one."""
    _rendered: dict[str, str] = field(default_factory=dict)
    _compiled: dict[str, Compiled] = field(default_factory=dict)

    def render(self, sql: str) -> str:
        """Return the engine's own text, with named parameters."""
        known = self._rendered.get(sql)
        if known is None:
            known = self._rendered[sql] = TOKEN.sub(self._word, sql)
        return known

    def compile(self, sql: str) -> Compiled:
        """Return the statement for the driver, which would look up every name in every run."""
        known = self._compiled.get(sql)
        if known is None:
            known = self._compiled[sql] = self._compile(sql)
        return known

    def _compile(self, sql: str) -> Compiled:
        text = self.render(sql)
        names = [name for name in dict.fromkeys(NAME.findall(text)) if name != "now"]
        numbers = {name: number for number, name in enumerate([*names, "now"], 1)}
        timed = re.search(r"(?<![:\w]):now\b", text) is not None
        lists = {token[2] for token in TOKEN.findall(sql) if token[0] == "among"}
        lists |= {"queues", "wanted", "closed"} & set(names)
        text = NAME.sub(lambda match: f"{self.mark}{numbers[match[1]]}", text)
        return Compiled(text, self._picker(names, lists), timed, not sql.lstrip().startswith("SELECT"))

    def _picker(self, names: list[str], lists: set[str]) -> Callable[[Params], tuple[Any, ...]]:
        as_list = self.as_list
        if lists:
            return lambda params: tuple(as_list(params[name]) if name in lists else params[name] for name in names)
        match names:
            case []:
                return lambda _: ()
            case [only]:
                return lambda params: (params[only],)
            case _:
                return itemgetter(*names)

    def _word(self, match: re.Match[str]) -> str:
        word, first, second = match.groups()
        if word == "among":
            return self.among.format(column=first, parameter=second)
        return TOKEN.sub(self._word, self.picks[word](first, second)) if first else self.words[word]


def _next_in_sqlite(column: str, queues: str, passing: str = "") -> str:
    return f"""SELECT id FROM tasks
              WHERE {_is_ready_in_sqlite(column, queues)}{passing}
              ORDER BY sort_at, id LIMIT 1"""


def _ready_in_sqlite(column: str, queues: str) -> str:
    return f"""id IN (
              SELECT id FROM tasks
               WHERE {_is_ready_in_sqlite(column, queues)}
                 AND (sort_at, id) > (:sort_at, :after)
               ORDER BY sort_at, id LIMIT :reach)"""


def _is_ready_in_sqlite(column: str, queues: str) -> str:
    wanted = "" if column == "any" else f" AND {{among:{column}:wanted}}"
    named = "" if queues == "any" else " AND {among:name:queues}"
    return f"status = 'ready' AND queue IN (SELECT name FROM queues WHERE state <> 'paused'{named}){wanted}"


SQLITE = Dialect(
    words={
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
        "integer": "INTEGER",
        "real": "REAL",
        "table": "STRICT",
        "keyed_table": "STRICT, WITHOUT ROWID",
        "now": ":now",
        "greatest": "max",
        "bytewise": "",
        "lock": "",
        "lock_tasks": "",
        "share": "",
        "skip_locked": "",
        "columns": "SELECT name FROM pragma_table_info(:name)",
        "xid": "0",
        "after_cursor": "position > :position",
        "event_order": "position",
        "searching": "SELECT 1",
        "found": "rowid",
        "matches": "search MATCH :match",
        "index": "INSERT OR REPLACE INTO search (rowid, instructions) VALUES (:id, :words)",
        "given_number": "SELECT seq FROM sqlite_sequence WHERE name = :name",
        "forget_numbers": "DELETE FROM sqlite_sequence WHERE name = :name",
        "set_number": "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :value)",
        "statistics": "SELECT 1",  # what the planner is told is fixed
    },
    among="{column} IN (SELECT value FROM json_each(:{parameter}))",
    picks={
        "next": _next_in_sqlite,
        "passing": partial(_next_in_sqlite, passing=PASSING_GATES),
        "ready": _ready_in_sqlite,
    },
    mark="?",
    as_list=json.dumps,
    as_words=words.as_one_text,
    match=words.match_in_sqlite,
)


def _next_in_postgres(column: str, queues: str, passing: str = "") -> str:
    # Two steps, for the planner would sort all ready tasks: which queue (and type) has the earliest head, then the
    # first of its tasks that nobody else is just claiming. When others are claiming all of those, that of the queue
    # with the next head, and so on; what is found in a queue is locked, so it looks no further than it has to.
    columns = "queue" if column == "any" else f"queue, {column}"
    head = ", ".join("head." + name for name in columns.split(", "))
    line = _line(column, head, reach="1", after=passing, lock=PASSING)
    first = f"SELECT first.id FROM head CROSS JOIN LATERAL ({line}) AS first"
    next_ = _walked(column, queues, columns, after=passing)
    all_ = _walked(column, queues, columns, after=passing, of_all="ALL")
    return f"""SELECT coalesce(
              (WITH head AS MATERIALIZED ({next_}) {first}),
              (WITH head AS MATERIALIZED ({all_}) {first} LIMIT 1))"""


def _ready_in_postgres(column: str, queues: str) -> str:
    after = " AND (tasks.sort_at, tasks.id) > (:sort_at, :after)"
    return f"id = ANY(ARRAY({_walked(column, queues, 'id', after=after, reach=':reach')}))"


def _walked(column: str, queues: str, columns: str, *, reach: str = "1", after: str = "", of_all: str = "") -> str:
    """Walk each queue (and type) in order, and merge what was found."""
    wanted = "" if column == "any" else " CROSS JOIN unnest(CAST(:wanted AS text[])) AS sought (value)"
    which = "queues.name" if column == "any" else "queues.name, sought.value"
    named = "" if queues == "any" else " AND {among:queues.name:queues}"
    line = _line(column, which, reach=reach, after=after)
    return f"""SELECT {", ".join("walked." + name for name in columns.split(", "))}
               FROM queues{wanted} CROSS JOIN LATERAL ({line}) AS walked
              WHERE queues.state <> 'paused'{named}
              ORDER BY walked.sort_at, walked.id LIMIT {of_all or reach}"""


def _line(column: str, which: str, *, reach: str, after: str = "", lock: str = "") -> str:
    """Walk one queue (or one type in it) in order.

    A type is asked for by a range, and is in the order: then only the index by type will do. Where nearly all tasks
    are of one type the planner would else walk the whole queue for another.
    """
    if column == "any":
        of, order = f"tasks.queue = {which}", "tasks.sort_at, tasks.id"
    else:
        both = f"(tasks.queue, tasks.{column})"
        of = f"{both} >= ({which}) AND {both} <= ({which})"
        order = f"tasks.queue, tasks.{column}, tasks.sort_at, tasks.id"
    return f"""SELECT tasks.* FROM tasks WHERE tasks.status = 'ready' AND {of}{after}
                 ORDER BY {order} LIMIT {reach}{lock}"""


POSTGRES = Dialect(
    words={
        "id": "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "integer": "BIGINT",
        "real": "DOUBLE PRECISION",
        "table": "",
        "keyed_table": "",
        "now": ":now",
        "greatest": "greatest",
        "bytewise": 'COLLATE "C"',
        "lock": "FOR UPDATE",
        "lock_tasks": "FOR UPDATE OF tasks",
        # Keeps a task from ending, for whatever ends one locks it whole first, and lets it be claimed.
        "share": "FOR KEY SHARE",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "columns": "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = :name ORDER BY ordinal_position",
        "xid": "CAST(CAST(xid AS text) AS BIGINT)",
        "after_cursor": "(xid, position) > (CAST(CAST(:xid AS text) AS xid8), :position)"
        " AND xid < pg_snapshot_xmin(pg_current_snapshot())",
        "event_order": "events.xid, position",
        # The index of words is read by a bitmap only; whether a word is rare enough for that, its statistics say.
        "searching": "SELECT set_config('enable_bitmapscan', 'on', true)",
        "found": "task_id",
        "matches": "words @@ CAST(:match AS tsquery)",
        "index": "INSERT INTO search (task_id, words) VALUES (:id, array_to_tsvector(CAST(:words AS text[])))"
        " ON CONFLICT (task_id) DO UPDATE SET words = excluded.words",
        "given_number": "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:name, :column) AS regclass))",
        "forget_numbers": "SELECT 1",
        "set_number": "SELECT setval(CAST(pg_get_serial_sequence(:name, :column) AS regclass), :value)",
        "statistics": "ANALYZE tasks, bodies, attempts, events, dependencies, task_tags, schedules, occurrences",
    },
    among="{column} = ANY(:{parameter})",
    picks={
        "next": _next_in_postgres,
        "passing": partial(_next_in_postgres, passing=PASSING_GATES),
        "ready": _ready_in_postgres,
    },
    mark="$",
    as_list=list,
    as_words=words.of_text,
    match=words.match_in_postgres,
)
