"""Huey on SQLite, with its consumer's own pauses between looks."""

import huey

from benchmarks.peers import woken

COMMAND = ("huey_consumer", "benchmarks.peers.woken.huey_.app", "-w", "1", "-q")
app = huey.SqliteHuey(filename=woken.SERVER, fsync=True)


@app.task()
def ring() -> None:
    woken.started()


async def send() -> None:
    ring()
