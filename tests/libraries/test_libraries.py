"""Programs that use Elixir libraries do a known number of operations; the page has these numbers, with their labels and units."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from actors import BOUNDS, samples
from harness.collector import Collector
from harness.process import Process, free_port, wait_until
from libraries import Program, Series, counted, page


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


def expect(collector: Collector, expected: Series, *prefixes: str) -> None:
    """Waits until the counts of the page that have these prefixes are these, and no others."""

    def difference() -> dict[str, object]:
        have = counted(page(collector, *prefixes))
        return {name: (have.get(name), expected.get(name)) for name in {*have, *expected} if have.get(name) != expected.get(name)}

    wait_until(lambda: difference() == {} or None, 20, f"the counts (page, expected): {difference()}")


def sums(collector: Collector, name: str) -> dict[str, float]:
    return page(collector, name)[f"{name}_sum"]


def bounds(collector: Collector, name: str) -> list[float]:
    return sorted({float(labels["le"]) for n, labels, _ in samples(collector.metrics()) if n == f"{name}_bucket"})[:-1]


def took(collector: Collector, name: str, labels: str, seconds: float) -> None:
    """The operations with these labels took at least this long, and not a thousand times as long: the unit is right."""
    assert seconds <= sums(collector, name)[labels] < seconds * 100, sums(collector, name)


REQUESTS = "http_server_request_duration_seconds"
VIEW = "view=Shop.CounterLive"
ITEM = "component=Shop.Item"
PHOENIX: Series = {
    REQUESTS: {
        "http_request_method=GET,http_response_status_code=200,http_route=/ok": 7,
        "http_request_method=GET,http_response_status_code=200,http_route=/slow": 1,
        "http_request_method=GET,http_response_status_code=200,http_route=/counter": 2,
        "http_request_method=GET,http_response_status_code=404": 1,
        "http_request_method=_OTHER,http_response_status_code=404": 1,
        "http_request_method=GET,http_response_status_code=500,http_route=/boom": 2,
        "http_request_method=GET,http_response_status_code=500,http_route=/broken": 1,
        "http_request_method=POST,http_response_status_code=201,http_route=/items/:id": 3,
    },
    "phoenix_router_dispatch_exceptions": {"http_route=/boom,kind=error": 2, "http_route=/broken,kind=error": 1},
    "phoenix_error_rendered_count": {"kind=error,status=404": 2, "kind=error,status=500": 3},
    "phoenix_render_duration_seconds": {
        "format=html,template=index,view=Shop.PageHTML": 7,
        "format=html,template=404,view=Shop.ErrorHTML": 2,
        "format=html,template=500,view=Shop.ErrorHTML": 3,
        "format=html,template=template,view=Phoenix.LiveView.Static": 2,
    },
    "phoenix_render_exceptions": {"format=html,kind=error,template=broken,view=Shop.PageHTML": 1},
    "phoenix_socket_connect_duration_seconds": {"result=ok,transport=websocket": 3, "result=error,transport=websocket": 1},
    "phoenix_channel_join_duration_seconds": {
        "channel=Shop.Room,result=ok,transport=websocket": 1,
        "channel=Shop.Room,result=error,transport=websocket": 1,
    },
    "phoenix_channel_handle_in_duration_seconds": {"channel=Shop.Room": 5},
    "phoenix_live_view_mount_duration_seconds": {f"connected=false,{VIEW}": 2, f"connected=true,{VIEW}": 2},
    "phoenix_live_view_handle_params_duration_seconds": {VIEW: 4},
    "phoenix_live_view_handle_event_duration_seconds": {f"event=inc,{VIEW}": 4, f"event=hide,{VIEW}": 1},
    # Two connected mounts and five events; the static pages have no such event.
    "phoenix_live_view_render_duration_seconds": {VIEW: 7, f"{ITEM},{VIEW}": 1},
    "phoenix_live_view_exceptions": {f"callback=handle_event,kind=error,{VIEW}": 1},
    "phoenix_live_component_update_duration_seconds": {ITEM: 4},
    "phoenix_live_component_handle_event_duration_seconds": {f"{ITEM},event=pick": 1},
    "phoenix_live_component_exceptions": {f"callback=handle_event,{ITEM},kind=error": 1},
    "phoenix_live_component_destroyed": {ITEM: 1},
}
SLOW = "http_request_method=GET,http_response_status_code=200,http_route=/slow"


def test_phoenix_and_live_view_on_bandit(collector: Collector):
    with Program(collector, "phoenix") as program:
        program.run("go")
        plug = "plug=Shop.Endpoint"
        bandit: Series = {
            "bandit_request_duration_seconds": {
                f"error=false,http_request_method=GET,http_response_status_code=101,{plug}": 3,
                f"error=false,http_request_method=GET,http_response_status_code=200,{plug}": 10,
                f"error=false,http_request_method=GET,http_response_status_code=403,{plug}": 1,
                f"error=false,http_request_method=GET,http_response_status_code=404,{plug}": 1,
                f"error=false,http_request_method=POST,http_response_status_code=201,{plug}": 3,
                f"error=false,http_request_method=_OTHER,http_response_status_code=404,{plug}": 1,
            },
            "bandit_request_exceptions": {f"exception=RuntimeError,kind=exit,{plug}": 3},
            "bandit_response_body_size_bytes": {plug: 16},
            "bandit_websocket_duration_seconds": {
                "error=false,websock=Phoenix.LiveView.Socket": 2,
                "error=false,websock=Shop.Socket": 1,
            },
            "thousand_island_connections": {"": 22},
            "thousand_island_connection_duration_seconds": {"error=false": 22},
        }
        ignored = ("bandit_websocket_received", "bandit_websocket_sent", "thousand_island_received", "thousand_island_sent")
        expect(collector, {**PHOENIX, **bandit}, REQUESTS, "phoenix_", "bandit_re", "bandit_websocket_d", "thousand_island_c")
        for name in ignored:
            assert all(value > 100 for value in page(collector, name)[f"{name}_bytes_total"].values())
        took(collector, REQUESTS, SLOW, 0.03)
        assert bounds(collector, REQUESTS) == BOUNDS


def test_phoenix_on_cowboy(collector: Collector):
    with Program(collector, "phoenix", {"SERVER": "cowboy"}) as program:
        program.run("go")
        cowboy: Series = {
            "cowboy_request_duration_seconds": {
                # A request that became a WebSocket has no status.
                "event=stop,http_request_method=GET": 3,
                "event=stop,http_request_method=GET,http_response_status_code=200": 10,
                "event=stop,http_request_method=GET,http_response_status_code=403": 1,
                "event=stop,http_request_method=GET,http_response_status_code=404": 1,
                "event=stop,http_request_method=POST,http_response_status_code=201": 3,
                "event=stop,http_request_method=_OTHER,http_response_status_code=404": 1,
                "event=exception,http_request_method=GET,http_response_status_code=500": 3,
            }
        }
        expect(collector, {**PHOENIX, **cowboy}, REQUESTS, "phoenix_", "cowboy_request_duration", "bandit")


ROUTER: Series = {
    "plug_router_dispatch_duration_seconds": {
        "http_route=/ok,router=Shop.Router": 7,
        "http_route=/slow,router=Shop.Router": 1,
        "http_route=/stream,router=Shop.Router": 1,
        "http_route=/items/:id,router=Shop.Router": 3,
        "http_route=/*_path,router=Shop.Router": 2,
    },
    "plug_router_dispatch_exceptions": {
        "http_route=/boom,kind=error,router=Shop.Router": 2,
        "http_route=/gone,kind=error,router=Shop.Router": 1,
        "http_route=/throw,kind=throw,router=Shop.Router": 1,
    },
    "plug_request_duration_seconds": {
        "http_request_method=GET,http_response_status_code=200,http_route=/ok,prefix=shop.plug": 7,
        "http_request_method=GET,http_response_status_code=200,http_route=/slow,prefix=shop.plug": 1,
        "http_request_method=GET,http_response_status_code=200,http_route=/stream,prefix=shop.plug": 1,
        "http_request_method=POST,http_response_status_code=201,http_route=/items/:id,prefix=shop.plug": 3,
        "http_request_method=GET,http_response_status_code=404,http_route=/*_path,prefix=shop.plug": 1,
        "http_request_method=_OTHER,http_response_status_code=404,http_route=/*_path,prefix=shop.plug": 1,
    },
}


@pytest.fixture
def plug_collector() -> Iterator[Collector]:
    with Collector(config={"metrics": {"variables": {"plug_prefix": ["shop.plug"]}}}) as collector:
        yield collector


def test_bandit_alone(plug_collector: Collector):
    with Program(plug_collector, "plug") as program:
        program.run("go")
        bandit: Series = {
            REQUESTS: {
                "http_request_method=GET,http_response_status_code=200,http_route=/ok": 7,
                "http_request_method=GET,http_response_status_code=200,http_route=/slow": 1,
                "http_request_method=GET,http_response_status_code=200,http_route=/stream": 1,
                "http_request_method=GET,http_response_status_code=404,http_route=/*_path": 1,
                "http_request_method=_OTHER,http_response_status_code=404,http_route=/*_path": 1,
                "http_request_method=POST,http_response_status_code=201,http_route=/items/:id": 3,
                # Not HTTP.
                "http_request_method=_OTHER": 1,
            },
            "bandit_request_exceptions": {
                "exception=RuntimeError,kind=exit,plug=Shop.Router": 2,
                "exception=Shop.NotFound,kind=exit,plug=Shop.Router": 1,
                "kind=throw,plug=Shop.Router": 1,
            },
            "bandit_request_body_size_bytes": {"plug=Shop.Router": 3},
        }
        expect(plug_collector, {**ROUTER, **bandit}, REQUESTS, "plug_", "bandit_request_e", "bandit_request_b")
        took(plug_collector, REQUESTS, SLOW, 0.03)
        assert sums(plug_collector, "bandit_request_body_size_bytes") == {"plug=Shop.Router": 6000}
        assert bounds(plug_collector, REQUESTS) == BOUNDS


def test_cowboy_alone(plug_collector: Collector):
    with Program(plug_collector, "plug", {"SERVER": "cowboy"}) as program:
        program.run("go")
        requests = {
            "http_request_method=GET,http_response_status_code=200": 9,
            "http_request_method=GET,http_response_status_code=404": 1,
            "http_request_method=_OTHER,http_response_status_code=404": 1,
            "http_request_method=POST,http_response_status_code=201": 3,
        }
        failed = "http_request_method=GET,http_response_status_code=500"
        cowboy: Series = {
            REQUESTS: {**requests, f"error_type=exception,{failed}": 4},
            "cowboy_request_duration_seconds": {
                **{f"event=stop,{labels}": n for labels, n in requests.items()},
                f"event=exception,{failed}": 4,
            },
            "cowboy_requests_malformed": {"http_response_status_code=400": 1},
        }
        expect(plug_collector, {**ROUTER, **cowboy}, REQUESTS, "plug_", "cowboy_request_d", "cowboy_requests")
        assert sums(plug_collector, "cowboy_request_body_size_bytes") == {"": 6000}
        assert 0.03 < sums(plug_collector, REQUESTS)["http_request_method=GET,http_response_status_code=200"] < 3


class Postgres(Process):
    """A Postgres server on a socket in its folder."""

    name = "postgres"

    def __init__(self) -> None:
        super().__init__()
        # Postgres does not run as root.
        self.user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"] if os.getuid() == 0 else []
        self.programs = Path(subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True).stdout.strip())
        # A socket's path is short, and other users may enter its folder.
        self.data = Path(tempfile.mkdtemp(prefix="dichroic-pg-"))
        self.data.chmod(0o777)

    def argv(self) -> list[str]:
        init = [*self.user, str(self.programs / "initdb"), "-D", str(self.data / "d"), "-A", "trust", "-U", "postgres"]
        subprocess.run(init, check=True, capture_output=True, cwd="/")
        options = ["-k", str(self.data), "-c", "listen_addresses=", "-c", "fsync=off"]
        return [*self.user, str(self.programs / "postgres"), "-D", str(self.data / "d"), *options]

    def wait_ready(self) -> None:
        check = [str(self.programs / "pg_isready"), "-h", str(self.data)]
        wait_until(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0, 60, "Postgres")

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        shutil.rmtree(self.data, ignore_errors=True)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as postgres:
        yield postgres


def select(series: Series, name: str, text: str) -> dict[str, float]:
    return {labels: value for labels, value in series.get(name, {}).items() if text in labels}


QUERIES = "db_client_operation_duration_seconds"


def test_ecto(collector: Collector, postgres: Postgres):
    with Program(collector, "oban", {"DATABASE": str(postgres.data)}) as program:
        program.run("queries")
        items = "db_collection_name=items"
        wait_until(
            lambda: (
                select(counted(page(collector, QUERIES)), QUERIES, items)
                == {
                    f"{items},db_operation_name=insert,repo=Shop.Repo,result=ok": 3,
                    f"{items},db_operation_name=update,repo=Shop.Repo,result=ok": 1,
                    # Four lists, one row, and the rows of a stream, which is opened and closed by other operations.
                    f"{items},db_operation_name=select,repo=Shop.Repo,result=ok": 6,
                    f"{items},repo=Shop.Repo,result=ok": 1,
                    f"{items},db_operation_name=close,repo=Shop.Repo,result=ok": 1,
                }
                or None
            ),
            20,
            "operations on one table",
        )
        series = counted(page(collector, QUERIES, "db_connection", "ecto_"))
        # Three queries were wrong; those that got no connection, which are Oban's too, have their own counter.
        given_up = sum(select(series, "db_connection_errors", "reason=queue_timeout,severity=error").values())
        assert given_up >= 1
        assert select(series, QUERIES, "result=error") == {"repo=Shop.Repo,result=error": 3 + given_up}
        assert select(series, QUERIES, "db_operation_name=rollback") == {"db_operation_name=rollback,repo=Shop.Repo,result=ok": 1}
        assert select(series, "ecto_query_duration_seconds", "source=items") == {"repo=Shop.Repo,source=items": 12}
        # pg_sleep took 60 ms, and the callers waited for a connection.
        took(collector, "ecto_query_duration_seconds", "repo=Shop.Repo", 0.06)
        took(collector, "ecto_queue_duration_seconds", "repo=Shop.Repo", 0.05)
        pool = "db_client_connection_pool_name=Shop.Repo"
        pools = {
            "db_client_connection_count": {f"{pool},db_client_connection_state=idle": 3},
            "db_client_connection_max": {pool: 3},
            "db_client_connection_pending_requests": {pool: 0},
        }
        wait_until(
            lambda: page(collector, "db_client_connection") == pools or None,
            20,
            f"pools: {page(collector, 'db_client_connection')}",
        )
        assert bounds(collector, QUERIES) == [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]


def test_oban(collector: Collector, postgres: Postgres):
    with Program(collector, "oban", {"DATABASE": str(postgres.data)}) as program:
        program.run("jobs")
        job = "queue=mail,state={},worker=Shop.Worker"
        states = {
            "event=stop," + job.format("success"): 7,
            "event=stop," + job.format("cancelled"): 1,
            "event=stop," + job.format("snoozed"): 1,
            "event=exception," + job.format("failure"): 4,
            "event=exception," + job.format("discard"): 1,
        }
        ended = {"event=stop,queue=mail": 9, "event=exception,queue=mail": 5}
        jobs: Series = {
            "oban_jobs": states,
            "oban_job_duration_seconds": states,
            "oban_jobs_started": {"queue=mail,worker=Shop.Worker": 14},
            "oban_job_exceptions": {"kind=error,queue=mail,worker=Shop.Worker": 5},
            "oban_job_queue_time_seconds": ended,
            "oban_job_memory_bytes": {f"{labels},worker=Shop.Worker": n for labels, n in ended.items()},
            "oban_producer_dispatched": {"queue=mail": 14},
        }
        expect(collector, jobs, "oban_job", "oban_producer_dispatched")
        took(collector, "oban_job_duration_seconds", "event=stop," + job.format("success"), 0.05)
        assert bounds(collector, "oban_job_duration_seconds")[-1] == 3600
        engine = counted(page(collector, "oban_engine"))["oban_engine_duration_seconds"]
        expected = {
            "insert_job": 12,
            "insert_all_jobs": 1,
            "complete_job": 7,
            "error_job": 4,
            "discard_job": 1,
            "snooze_job": 1,
            "cancel_job": 1,
        }
        assert {operation: engine[f"operation={operation}"] for operation in expected} == expected
        # Plugins have the name that a later version gives them.
        for plugin in ("Oban.Pruner", "Oban.Lifeline", "Oban.Stager"):
            runs = f"error=false,plugin={plugin}"
            wait_until(
                lambda runs=runs: counted(page(collector, "oban_plugin"))["oban_plugin_duration_seconds"][runs],
                20,
                f"runs of {plugin}",
            )


def test_redix(collector: Collector):
    port = free_port()

    class Redis(Process):
        name = "redis"

        def argv(self) -> list[str]:
            return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]

        def wait_ready(self) -> None:
            self.wait_line("Ready to accept connections", 60)

    with Redis(), Program(collector, "redix", {"REDIS": str(port)}) as program:
        program.run("commands")
        cache = "connection=cache,db_operation_name={},db_system_name=redis,result={}"
        commands = {
            cache.format("SET", "ok"): 7,
            cache.format("GET", "ok"): 3,
            # Two replies of the server are errors, which the event does not have; the third is the first of a pipeline.
            cache.format("INCR", "ok"): 3,
            cache.format("MULTI", "ok"): 1,
            cache.format("CLIENT", "ok"): 1,
            cache.format("BLPOP", "error"): 1,
        }
        connections: Series = {"redix_connections": {"connection=cache,reconnection=false": 1}}
        sent: Series = {"redix_commands": {"connection=cache": 22}}
        expect(collector, {QUERIES: commands, **connections, **sent}, QUERIES, "redix")
        took(collector, QUERIES, cache.format("BLPOP", "error"), 0.05)
        program.run("reconnect")
        connections["redix_connections"]["connection=cache,reconnection=true"] = 1
        connections["redix_disconnections"] = {"connection=cache": 1}
        expect(collector, connections, "redix_connections", "redix_disconnections")
        program.run("refused")
        connections["redix_connections_failed"] = {"connection=nowhere": 1}
        expect(collector, connections, "redix_connections", "redix_disconnections")


def test_finch(collector: Collector):
    with Program(collector, "finch") as program:
        program.run("go")
        client = "http_client_request_duration_seconds"
        request = "http_request_method={},http_response_status_code={},result=ok,server_address=127.0.0.1,url_scheme=http"
        without = "http_request_method=GET,result={},server_address=127.0.0.1,url_scheme=http"
        pool = "pool=Shop.Finch,server_address=127.0.0.1"
        answer = "error=false,http_response_status_code={},pool=Shop.Finch,server_address={}"
        expected: Series = {
            client: {
                request.format("GET", 200): 10,
                request.format("GET", 200).replace("127.0.0.1", "localhost"): 4,
                request.format("GET", 500): 2,
                request.format("POST", 201): 3,
                request.format("_OTHER", 404): 1,
                # A stream has no status; the others are a timeout and a refused connection.
                without.format("ok"): 1,
                without.format("error"): 2,
                # No connection became free.
                without.format("exception"): 1,
            },
            "finch_request_exceptions": {f"kind=error,{pool}": 1},
            "finch_queue_duration_seconds": {pool: 19},
            "finch_queue_exceptions": {f"kind=exit,{pool}": 1},
            "finch_connect_duration_seconds": {
                f"error=false,{pool}": 3,
                f"error=true,{pool}": 1,
                f"error=false,{pool}".replace("127.0.0.1", "localhost"): 1,
            },
            "finch_send_duration_seconds": {"error=false,server_address=127.0.0.1": 18, "error=false,server_address=localhost": 4},
            "finch_recv_duration_seconds": {
                answer.format(200, "127.0.0.1"): 11,
                answer.format(200, "localhost"): 4,
                answer.format(201, "127.0.0.1"): 3,
                answer.format(404, "127.0.0.1"): 1,
                answer.format(500, "127.0.0.1"): 2,
                f"error=true,{pool}": 1,
            },
            "finch_connections_reused": {pool: 15},
            "finch_connections_idle_closed": {"server_address=127.0.0.1": 1},
        }
        expect(collector, expected, client, "finch")
        took(collector, client, without.format("error"), 0.5)
        took(collector, client, without.format("exception"), 0.05)
        assert bounds(collector, client) == BOUNDS


def test_absinthe(collector: Collector):
    with Program(collector, "absinthe") as program:
        program.run("go")
        operation = "graphql_entry_point={},graphql_operation_type={},schema=Shop.Schema"
        server = "graphql_server_request_duration_seconds"
        expected: Series = {
            server: {
                operation.format("ping", "query"): 7,
                operation.format("item", "query"): 3,
                operation.format("refused", "query"): 2,
                operation.format("slow", "query"): 1,
                operation.format("task", "query"): 1,
                operation.format("rename", "mutation"): 1,
                operation.format("renamed", "subscription"): 1,
                # An unknown field, and a syntax error.
                "graphql_operation_type=query,schema=Shop.Schema": 3,
                "": 1,
            },
            "absinthe_operations_invalid": {"schema=Shop.Schema": 3, "": 1},
            "absinthe_operations_errors": {operation.format("refused", "query"): 2},
            "absinthe_operation_complexity": {operation.format("item", "query"): 1},
            "absinthe_subscription_publish_duration_seconds": {operation.format("renamed", "subscription"): 1},
            "absinthe_batch_duration_seconds": {"function=items,module=Shop.Batch": 3},
            "absinthe_batch_exceptions": {"function=broken,kind=error,module=Shop.Batch": 1},
            "absinthe_batch_timeouts": {"": 1},
            "absinthe_async_duration_seconds": {"": 1},
            "absinthe_async_exceptions": {"kind=error": 1},
        }
        expect(collector, expected, server, "absinthe")
        took(collector, server, operation.format("slow", "query"), 0.03)


def test_commanded(collector: Collector):
    with Program(collector, "commanded") as program:
        program.run("go")
        program.run("again")
        application = "application=Shop.App"
        command = application + ",command=Shop.{},error={}"
        handler = application + ",error={},event=Shop.{},handler=mailer"
        expected: Series = {
            "commanded_dispatch_duration_seconds": {
                command.format("Open", "false"): 2,
                command.format("Open", "true"): 1,
                command.format("Deposit", "false"): 8,
                command.format("Break", "true"): 1,
            },
            "commanded_aggregate_execute_duration_seconds": {
                command.format("Open", "false"): 2,
                command.format("Open", "true"): 1,
                command.format("Deposit", "false"): 8,
            },
            "commanded_aggregate_events": {f"{application},command=Shop.Open": 2, f"{application},command=Shop.Deposit": 9},
            "commanded_aggregate_exceptions": {f"{application},command=Shop.Break,kind=error": 1},
            # An error ends the aggregate, which the next command rebuilds.
            "commanded_aggregate_populate_duration_seconds": {f"aggregate=Shop.Account,{application}": 2},
            "commanded_aggregate_populate_events": {f"aggregate=Shop.Account,{application}": 2},
            "commanded_event_handle_duration_seconds": {
                handler.format("false", "Opened"): 2,
                handler.format("false", "Deposited"): 7,
                handler.format("true", "Deposited"): 1,
            },
            "commanded_event_exceptions": {f"{application},handler=mailer,kind=error,of=event": 1},
            "commanded_event_batch_duration_seconds": {f"{application},error=false,flush_reason=immediate,handler=reports": 11},
            "commanded_event_batch_size": {f"{application},handler=reports": 11},
            "commanded_process_manager_handle_duration_seconds": {f"{application},error=false,process_manager=bonus": 1},
            "commanded_process_manager_exceptions": {f"{application},kind=error,process_manager=bonus": 1},
        }
        kinds = ("dispatch", "aggregate", "event_h", "event_e", "event_b", "process")
        expect(collector, expected, *(f"commanded_{kind}" for kind in kinds))
        # Nine events took 5 ms each.
        took(collector, "commanded_event_handle_duration_seconds", handler.format("false", "Deposited"), 0.035)
        store = counted(page(collector, "commanded_event_store"))["commanded_event_store_duration_seconds"]
        assert store[f"{application},operation=append_to_stream"] == 10


def test_grpc(collector: Collector):
    with Program(collector, "grpc") as program:
        program.run("go")
        call = "rpc_grpc_status_code={},rpc_method={},rpc_service=shop.Greeter,rpc_system=grpc"
        server = {
            call.format(0, "Greet"): 7,
            call.format(0, "List"): 1,
            call.format(0, "Collect"): 1,
            call.format(2, "Greet"): 1,
            call.format(5, "Greet"): 2,
        }
        expected: Series = {
            # The server kills a handler at its deadline, so that only the client measured that call.
            "rpc_server_duration_seconds": server,
            "rpc_client_duration_seconds": {**server, call.format(4, "Greet"): 1},
            "grpc_server_started": {
                "rpc_method=Greet,rpc_service=shop.Greeter": 11,
                "rpc_method=List,rpc_service=shop.Greeter": 1,
                "rpc_method=Collect,rpc_service=shop.Greeter": 1,
            },
            "grpc_server_exceptions": {"kind=error,rpc_method=Greet,rpc_service=shop.Greeter": 1},
        }
        expect(collector, expected, "rpc_", "grpc_")
        took(collector, "rpc_client_duration_seconds", call.format(4, "Greet"), 0.2)
