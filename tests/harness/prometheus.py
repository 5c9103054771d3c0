"""A Prometheus that scrapes the collector, and promtool."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from harness.process import ROOT, Json, Process, Timeout, free_port, http_get, wait_until


def prometheus_folder() -> Path:
    """Folder of `prometheus` and `promtool`; fetched and unpacked once."""
    script = ROOT / "scripts" / "fetch-prometheus.sh"
    done = subprocess.run([str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.split()[-1])


def promtool(*args: str, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs promtool; the caller checks the exit code."""
    tool = str(prometheus_folder() / "promtool")
    return subprocess.run([tool, *args], capture_output=True, text=True, cwd=cwd, input=stdin, check=False)


class QueryError(AssertionError):
    """Prometheus rejected a query."""


class Prometheus(Process):
    """A Prometheus server that scrapes the collector as the README recommends (`honor_labels: true`).

    A restart keeps port and data.
    """

    name = "prometheus"

    def __init__(
        self,
        target: str,
        rule_files: Sequence[Path] = (),
        job: str = "dichroic",
        interval: str = "1s",
    ):
        """`target` is host:port, such as `collector.prometheus`."""
        super().__init__()
        self.target, self.rule_files, self.job, self.interval = (
            target,
            list(rule_files),
            job,
            interval,
        )
        self.port = 0

    def argv(self) -> Sequence[str]:
        self.port = self.port or free_port()
        scrape = {
            "job_name": self.job,
            "honor_labels": True,
            "static_configs": [{"targets": [self.target]}],
        }
        config = {
            "global": {
                "scrape_interval": self.interval,
                "scrape_timeout": self.interval,
                "evaluation_interval": self.interval,
            },
            "rule_files": [str(path) for path in self.rule_files],
            "scrape_configs": [scrape],
        }
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(config, indent=2))
        return [
            str(prometheus_folder() / "prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def wait_ready(self) -> None:
        def ready() -> bool:
            if not self.running():
                raise SystemError(f"prometheus ended with {self.child.returncode}:\n{self.output()}")
            return http_get(f"{self.url}/-/ready")[0] == 200

        wait_until(ready, 30, "prometheus to be ready")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def api(self, path: str, **parameters: str | float) -> Json:
        query = urllib.parse.urlencode({k: str(v) for k, v in parameters.items()})
        status, body = http_get(f"{self.url}/api/v1/{path}?{query}")
        document = json.loads(body)
        if document.get("status") != "success":
            raise QueryError(f"{status} {document.get('error', body)}")
        return document["data"]

    def query(self, promql: str, at: float | None = None) -> list[Json]:
        """Returns the instant vector: a list of {"metric": labels, "value": [time, text]}."""
        result: list[Json] = self.api("query", query=promql, **({} if at is None else {"time": at}))["result"]
        return result

    def wait_query(self, promql: str, seconds: float = 60.0) -> list[Json]:
        """Returns the first result that is not empty. The timeout's message has the errors of the scrapes."""
        try:
            return wait_until(lambda: self.query(promql), seconds, f"a result of {promql}")
        except Timeout as error:
            errors = {target["scrapeUrl"]: target["lastError"] for target in self.api("targets")["activeTargets"]}
            raise Timeout(f"{error}; errors of scrapes: {errors}") from None

    def query_range(self, promql: str, start: float, end: float, step: float) -> list[Json]:
        result: list[Json] = self.api("query_range", query=promql, start=start, end=end, step=step)["result"]
        return result

    def scalar(self, promql: str) -> float:
        """Returns the value of a query with exactly one sample."""
        result = self.query(promql)
        assert len(result) == 1, f"{promql} has {len(result)} samples: {result[:3]}"
        return float(result[0]["value"][1])

    def label_values(self, label: str, selector: str) -> list[str]:
        values: list[str] = self.api(f"label/{label}/values", **{"match[]": selector})
        return values
