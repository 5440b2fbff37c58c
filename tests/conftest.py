"""What every test can ask for: an engine, queues over it, a clock to turn, callers, a seed."""

from __future__ import annotations

import random
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from taskqueue_mcp.model import Caller, Kind, Scope
from taskqueue_mcp.store import open_database
from taskqueue_mcp.taskqueue import Rules, TaskQueue
from tests.clock import Clock
from tests.postgres import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ENGINES = ["sqlite", "postgres"]
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system, and the folders made in it are private


class OpenQueue(Protocol):
    """Opens the test's database once more, as another process would; changes are to the default `Rules`."""

    def __call__(self, **changes: Any) -> TaskQueue: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("taskqueue")
    group.addoption("--soak", action="store_true", help="run the long forms of the reliability tests")
    group.addoption("--times", type=float, default=1.0, help="how many times as long the long forms are to be")
    group.addoption("--seed", type=int, default=None, help="repeat the random choices of an earlier run")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what it runs in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.seed is None:
        given = getattr(config, "workerinput", {})  # of a process that runs a share of the tests
        config.option.seed = given.get("seed") or random.SystemRandom().randrange(1 << 32)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Have every process of a run make the same choices."""
    node.workerinput["seed"] = node.config.option.seed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(f"random choices: --seed {config.option.seed}")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long forms are wanted."""
    return bool(request.config.option.soak)


class Size(Protocol):
    """Chooses how much of something a run does: in its quick form, and in its long one times `--times`."""

    def __call__(self, quick: int, long: int) -> int: ...


@pytest.fixture(scope="session")
def size(request: pytest.FixtureRequest) -> Size:
    """How much of something to do."""
    option = request.config.option
    return lambda quick, long: max(1, round(long * option.times)) if option.soak else quick


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run's random choices; the summary names it."""
    return int(request.config.option.seed)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for an engine on all of them, but for those marked `engines` with theirs."""
    if "engine" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("engines")
        metafunc.parametrize("engine", marked.args if marked else ENGINES, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The database under test; the contract holds on every one."""
    return str(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose syncs are quick, where the machine has one: what is tested is the order of things."""
    with tempfile.TemporaryDirectory(prefix="taskqueue-", dir=MEMORY if MEMORY.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server; it starts with the first test that asks for it."""
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database of this test's own."""
    if engine == "sqlite":
        folder: Path = request.getfixturevalue("folder")
        yield f"sqlite:///{folder / 'queue.db'}"
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    name = cluster.new_database()
    yield cluster.url(name, pooled=True)
    cluster.drop(name)


@pytest.fixture
async def open_queue(database_url: str, clock: Clock) -> AsyncIterator[OpenQueue]:
    opened: list[TaskQueue] = []

    def another(**changes: Any) -> TaskQueue:
        rules = Rules(**{"chance": lambda: 0.5, **changes})
        opened.append(TaskQueue(open_database(database_url, clock=clock), rules))
        return opened[-1]

    yield another
    for queue in reversed(opened):
        queue.waiters.detach()
        await queue.database.close()


@pytest.fixture
async def queue(open_queue: OpenQueue) -> TaskQueue:
    return open_queue()


@pytest.fixture(scope="session")
def gemini() -> Caller:
    """An agent that enqueues."""
    return Caller("gemini", Kind.AGENT, frozenset({Scope.ENQUEUE}))


@pytest.fixture(scope="session")
def claude() -> Caller:
    """An agent that works."""
    return Caller("claude", Kind.AGENT, frozenset({Scope.WORK}))


@pytest.fixture(scope="session")
def other_worker() -> Caller:
    """Another agent that works."""
    return Caller("codex", Kind.AGENT, frozenset({Scope.WORK}))


@pytest.fixture(scope="session")
def person() -> Caller:
    """The person at this machine."""
    return Caller("owner", Kind.PERSON, frozenset(Scope))
