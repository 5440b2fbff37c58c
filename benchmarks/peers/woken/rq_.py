"""RQ on Redis, with the worker that runs tasks itself: its default forks for each, which takes some 25 ms."""

import redis
import rq

from benchmarks.peers import woken

COMMAND = ("rq", "worker", "--url", f"unix://{woken.SERVER}", "-q", "-w", "rq.SimpleWorker")
queue = rq.Queue(connection=redis.Redis(unix_socket_path=woken.SERVER))


async def send() -> None:
    queue.enqueue(woken.started)
