"""Secrets of the configuration are in no output, and files that never end do not stop the collector."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from harness.collector import Collector, dichroic_bin
from harness.process import http_get, wait_until

SECRET = 'hunter2-hunter2"x: [0123'


def check(path: Path | str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(dichroic_bin()), "check", "--config", str(path), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **variables})


class LogsJson(Collector):
    """With JSON logs and a secret in the environment."""

    def environment(self) -> dict[str, str]:
        return {"DICHROIC_LOG_FORMAT": "json", "TEST_SECRET": SECRET}


@pytest.mark.parametrize(
    "text",
    [
        'admin: { token: "${env:TEST_SECRET}", zebra: 1 }\n',
        "admin:\n  token: ${env:TEST_SECRET}\n  listen: [\n",
        'admin: { listen: "${env:TEST_SECRET}" }\n',
        'metrics: { packs: ["${env:TEST_SECRET}"] }\n',
        f"admin: {{ tokn: '{SECRET}' }}\n",
        f"admin:\n  token: '{SECRET}'\n  listen: 1 2 3\n",
        f"receivers: {{ prometheus: {{ scrape_configs: [{{ job_name: a, params: {{ key: ['{SECRET}'] }}, zebra: 1 }}] }} }}\n",
    ],
    ids=["unknown key", "invalid YAML", "invalid value", "rule", "mistyped key", "line after", "parameter"],
)
def test_no_error_shows_a_secret(tmp_path: Path, text: str):
    path = tmp_path / "dichroic.yaml"
    path.write_text(text)
    done = check(path, TEST_SECRET=SECRET)
    assert done.returncode == 78, done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_no_log_line_of_a_reload_shows_a_secret():
    with LogsJson() as collector:
        for text in [
            'admin: { token: "${env:TEST_SECRET}", zebra: 1 }\n',
            'metrics: { packs: ["${env:TEST_SECRET}"] }\n',
            "admin: { token: ${env:TEST_SECRET} }\n",
        ]:
            rejected = collector.output().count("invalid configuration")
            collector.config_file.write_text(text)
            collector.child.send_signal(signal.SIGHUP)
            wait_until(
                lambda seen=rejected: collector.output().count("invalid configuration") > seen, 20, "the rejection in the log"
            )
        assert "hunter2" not in collector.output()


def test_the_query_of_a_target_is_in_no_output():
    job = {
        "job_name": "a",
        "scrape_interval": "1s",
        "metrics_path": "/m?key=hunter2",
        "params": {"token": ["hunter2"]},
        "static_configs": [{"targets": ["127.0.0.1:1"]}],
    }
    with LogsJson(config={"receivers": {"prometheus": {"scrape_configs": [job]}}}) as collector:
        wait_until(lambda: collector.sources()["targets"][0]["failures"], 20, "a failed scrape")
        shown = [json.dumps(collector.sources()), collector.metrics(), collector.run_command("lint").stdout, collector.output()]
        assert "token=***" in shown[0]
        shown.append(check(collector.config_file, "--print").stdout)
        assert "<redacted>" in shown[-1]
        assert "hunter2" not in "".join(shown)


def test_a_value_does_not_become_a_key(tmp_path: Path):
    path = tmp_path / "dichroic.yaml"
    path.write_text('admin: { token: "${env:TEST_SECRET}" }\n')
    done = check(path, "--print", TEST_SECRET='0123456789abcdef", listen: "0.0.0.0:1')
    assert done.returncode == 0, done.stderr
    assert "listen: 127.0.0.1:9465" in done.stdout


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
def test_a_reference_to_a_file_without_an_end_is_refused(tmp_path: Path, kind: str):
    named = Path(kind)
    if kind == "pipe":
        named = tmp_path / "pipe"
        os.mkfifo(named)
    path = tmp_path / "dichroic.yaml"
    for text in [
        f'admin: {{ token: "${{file:{named}}}" }}\n',
        f"security: {{ local_tcp: {{ token_file: {named} }} }}\n",
    ]:
        path.write_text(text)
        done = check(path)
        assert done.returncode == 78, done.stderr
        assert "not a regular file" in done.stderr


def test_the_configuration_may_come_from_a_pipe_but_not_without_an_end(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("limits: { series: 5 }\n",), daemon=True)
    writer.start()
    done = check(pipe)
    writer.join(60)
    assert done.returncode == 0, done.stderr
    done = check(pipe)
    assert done.returncode == 78
    assert "within 5 s" in done.stderr
    done = check("/dev/zero")
    assert done.returncode == 78
    assert "more than" in done.stderr


def test_a_reload_from_a_file_without_an_end_does_not_stop_the_page():
    with Collector() as collector:
        collector.config_file.unlink()
        os.mkfifo(collector.config_file)
        collector.child.send_signal(signal.SIGHUP)
        while "invalid configuration" not in collector.output():
            assert http_get(f"http://{collector.prometheus}/healthz", timeout=4)[0] == 200
            assert collector.running()
        collector.config_file.unlink()


def test_an_address_of_another_machine_requires_tls(tmp_path: Path):
    path = tmp_path / "dichroic.yaml"
    path.write_text("receivers: { beam: { attach: [{ node: a@192.0.2.7 }] } }\n")
    done = check(path)
    assert done.returncode == 78
    assert "requires tls" in done.stderr


def test_a_tag_that_yaml_does_not_define_is_refused(tmp_path: Path):
    path = tmp_path / "dichroic.yaml"
    path.write_text("limits: !foo { series: 5 }\n")
    done = check(path)
    assert done.returncode == 78
    assert "unsupported tag" in done.stderr
