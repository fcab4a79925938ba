"""The proxy of the fault `latency`, between a client and a server that echoes."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).resolve().parents[2] / "roles" / "chaos" / "files" / "slow_proxy.py"
SECONDS = 0.2


@pytest.fixture(scope="module")
def proxy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("slow_proxy", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and end when the client does."""
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as soon as somebody listens."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)


async def refused(port: int) -> None:
    """Connect until nobody listens any more."""
    async with asyncio.timeout(120):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.05)


def test_bytes_come_late_and_whole_and_it_ends_with_its_connections(proxy: ModuleType) -> None:
    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        serving = asyncio.create_task(proxy.serve(port, "127.0.0.1", server.sockets[0].getsockname()[1], SECONDS))
        reader, writer = await connected(port)
        loop = asyncio.get_running_loop()
        began = loop.time()
        text = b"x" * 300_000 + b"\n"
        writer.write(text)
        assert await reader.readexactly(len(text)) == text
        assert loop.time() - began >= SECONDS
        os.kill(os.getpid(), signal.SIGTERM)
        # It takes no more, and the one it has goes on, no longer slow.
        await refused(port)
        writer.write(b"more\n")
        assert await reader.readline() == b"more\n"
        assert not serving.done()
        writer.write_eof()
        assert await reader.read() == b""
        async with asyncio.timeout(120):
            await serving
        writer.close()
        server.close()

    asyncio.run(scene())
