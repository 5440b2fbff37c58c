"""Celery on Redis: one worker with one process."""

import celery

from benchmarks.peers import woken

COMMAND = ("celery", "-A", "benchmarks.peers.woken.celery_", "-q", "worker", "-c", "1", "--loglevel", "ERROR",
           "--without-gossip", "--without-mingle")  # fmt: skip
app = celery.Celery("bench", broker=f"redis+socket://{woken.SERVER}", broker_connection_retry_on_startup=True)


@app.task(ignore_result=True)
def ring() -> None:
    woken.started()


async def send() -> None:
    ring.delay()
