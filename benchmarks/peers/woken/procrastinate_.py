"""Procrastinate on PostgreSQL, woken by LISTEN."""

import procrastinate

from benchmarks.peers import woken

COMMAND = ("procrastinate", "--app", "benchmarks.peers.woken.procrastinate_.app", "worker", "--concurrency", "1")
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=woken.SERVER))


@app.task(name="ring")
async def ring() -> None:
    woken.started()


async def send() -> None:
    await ring.defer_async()
