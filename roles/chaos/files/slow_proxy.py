"""Forwards TCP connections and holds every byte back: ``slow_proxy.py PORT TARGET-ADDRESS TARGET-PORT SECONDS``.

Half of the seconds on the way to the target, half on the way back. At SIGTERM it holds nothing back any more, takes no
more connections and ends with the last of those it has: who keeps one alive must not find it cut.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

_CHUNK = 65536
# Connections that were led here before the end may wait in the kernel to be accepted.
_LATE_COMERS = 1.0


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: Callable[[], float]) -> None:
    """Pass on what comes, each piece ``seconds()`` after it came, and the end after it."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def take() -> None:
        data = b"x"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = b""
            waiting.put_nowait((loop.time() + seconds(), data))

    taking = asyncio.create_task(take())
    try:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()
    finally:
        taking.cancel()


async def serve(port: int, address: str, target: int, seconds: float) -> None:
    """Serve until SIGTERM, and then until no connection is left."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    running: set[asyncio.Task[None]] = set()

    def each_way() -> float:
        return 0 if stop.is_set() else seconds / 2

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection(address, target)
            await asyncio.gather(pump(reader, there_writer, each_way), pump(there_reader, writer, each_way))
            there_writer.close()
        except OSError:
            pass
        finally:
            writer.close()
            running.discard(task)

    server = await asyncio.start_server(forward, port=port)
    await stop.wait()
    await asyncio.sleep(_LATE_COMERS)
    server.close()
    if running:
        await asyncio.wait(running)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
