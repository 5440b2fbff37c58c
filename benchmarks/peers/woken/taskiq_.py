"""Taskiq on a Redis stream, which is acknowledged: its list queue would lose a task with its worker."""

import taskiq_redis

from benchmarks.peers import woken

COMMAND = ("taskiq", "worker", "benchmarks.peers.woken.taskiq_:broker", "-w", "1", "--log-level", "ERROR")
broker = taskiq_redis.RedisStreamBroker(f"unix://{woken.SERVER}")


@broker.task
async def ring() -> None:
    woken.started()


async def send() -> None:
    await ring.kiq()
