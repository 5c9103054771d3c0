"""A consumer: what the Erlang node and the Python programs do, in one `async for` each for events, logs and points.

    python consumer.py [ADDRESS]

Prints one JSON object a line, for the demo to show: every event, log and point it gets, and every gap. ADDRESS is what
`dichroic.connect` takes; without one it finds the collector's local socket.
"""

import asyncio
import json
import sys

import dichroic


def say(**fields: object) -> None:
    print(json.dumps(fields, default=str), flush=True)


def told_by(row: dichroic.Event) -> dict[str, object]:
    if isinstance(row, dichroic.Log):
        return {"body": row.body, "metadata": dict(row.metadata)}
    return {"measurements": dict(row.measurements), "metadata": dict(row.metadata)}


async def follow(address: str | None, kind: str, *patterns: str, **options: object) -> None:
    async with dichroic.connect(address) as client:
        async with client.subscribe(*patterns, kind=kind, on_gap="yield", **options) as rows:
            async for row in rows:
                if isinstance(row, dichroic.Gap):
                    say(kind="gap", lost=row.lost, reason=row.reason)
                elif kind == "metric":
                    say(kind=kind, name=row.name, source=row.source, labels=row.labels)
                else:
                    say(kind=kind, name=row.name, source=row.source, time=row.time, **told_by(row))


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
