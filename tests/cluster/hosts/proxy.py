"""A TCP proxy that delays what it carries, and drops connections: `python proxy.py PORT HOST:PORT`.

Run by itself on a host of a rig, with a service's clients pointed at it.
"""

import asyncio
import random
import sys

DELAY_S = 0.2
DROPPED = 0.05
CHUNK = 65536
MOST_CHUNKS = 256


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes bytes on, each of them late by as much, until the sender ends."""
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MOST_CHUNKS)
    clock = asyncio.get_running_loop().time

    async def arrive() -> None:
        while (late := await on_the_way.get())[1]:
            await asyncio.sleep(late[0] - clock())
            writer.write(late[1])
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    try:
        while chunk := await reader.read(CHUNK):
            await on_the_way.put((clock() + DELAY_S, chunk))
        await on_the_way.put((0.0, b""))
        await arriving
    except OSError:
        arriving.cancel()
    finally:
        writer.close()


async def main(port: int, host: str, to: int) -> None:
    """Serves until it is killed."""
    dice = random.Random(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if dice.random() < DROPPED:
            writer.transport.abort()
            return
        back, forth = await asyncio.open_connection(host, to)
        await asyncio.gather(carry(reader, forth), carry(back, writer))

    async with await asyncio.start_server(serve, "0.0.0.0", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    host, _, to = sys.argv[2].rpartition(":")
    asyncio.run(main(int(sys.argv[1]), host, int(to)))
