"""Pages, an upload, a download and a WebSocket, on FastAPI and uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

app = FastAPI()
MEGABYTE = b"x" * 1024 * 1024


@app.get("/")
@app.post("/")
async def index() -> dict[str, str]:
    """Say who answers."""
    return {"host": socket.gethostname(), "version": os.environ["APP_VERSION"], "mode": os.environ.get("MODE", "")}


@app.get("/wait/{seconds}")
@app.post("/wait/{seconds}")
async def wait(seconds: float) -> dict[str, float]:
    """Answer late."""
    await asyncio.sleep(seconds)
    return {"waited": seconds}


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    """Count the bytes that come."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return {"bytes": size}


@app.get("/download/{megabytes}")
async def download(megabytes: int) -> StreamingResponse:
    """Send so many megabytes."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(megabytes):
            yield MEGABYTE

    return StreamingResponse(parts())


@app.websocket("/socket")
async def echo(client: WebSocket) -> None:
    """Send back what comes."""
    await client.accept()
    try:
        while True:
            await client.send_text(await client.receive_text())
    except WebSocketDisconnect:
        return
