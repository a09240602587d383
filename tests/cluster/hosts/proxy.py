"""A TCP proxy that delays what it carries, and drops connections: `python proxy.py PORT HOST:PORT`.

Run by itself on a host of a rig, with a service's clients pointed at it.
"""

import asyncio
import random
import sys

DELAY_S = 0.2
DROPPED = 0.05
CHUNK = 65536


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes bytes on, each chunk late, until the sender ends."""
    try:
        while chunk := await reader.read(CHUNK):
            await asyncio.sleep(DELAY_S)
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
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
