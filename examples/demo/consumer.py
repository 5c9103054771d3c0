"""A consumer of the events, logs and points of the Erlang node and the Python programs, with one `async for` for each kind.

    python consumer.py [ADDRESS]

Prints every event, log, point and gap as one JSON object per line; demo.py reads them. ADDRESS is an address for
`dichroic.connect`; the default is the collector's local socket.
"""

import asyncio
import json
import sys

import dichroic


def write(**fields: object) -> None:
    print(json.dumps(fields, default=str), flush=True)


def fields_of(row: dichroic.Event) -> dict[str, object]:
    if isinstance(row, dichroic.Log):
        return {"body": row.body, "metadata": dict(row.metadata)}
    return {"measurements": dict(row.measurements), "metadata": dict(row.metadata)}


async def follow(address: str | None, kind: str, *patterns: str, **options: object) -> None:
    async with dichroic.connect(address) as client:
        async with client.subscribe(*patterns, kind=kind, on_gap="yield", **options) as rows:
            async for row in rows:
                if isinstance(row, dichroic.Gap):
                    write(kind="gap", lost=row.lost, reason=row.reason)
                elif kind == "metric":
                    write(kind=kind, name=row.name, source=row.source, labels=row.labels)
                else:
                    write(kind=kind, name=row.name, source=row.source, time=row.time, **fields_of(row))


async def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else None
    await asyncio.gather(
        follow(address, "event", "phoenix.endpoint.stop", "oban.job.*", "my_app.repo.query", sample=0.2),
        follow(address, "log", "**"),
        follow(address, "metric", "**", every=2.0),
    )


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
