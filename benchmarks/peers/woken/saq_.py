"""SAQ on Redis."""

import redis.asyncio
import saq.queue.redis

from benchmarks.peers import woken

COMMAND = ("saq", "benchmarks.peers.woken.saq_.settings", "--quiet")
queue = saq.queue.redis.RedisQueue(redis.asyncio.Redis(unix_socket_path=woken.SERVER))


async def ring(ctx: dict[str, object]) -> None:  # noqa: ARG001 - what SAQ calls it with
    woken.started()


settings = {"queue": queue, "functions": [ring], "concurrency": 1}


async def send() -> None:
    await queue.enqueue("ring")
