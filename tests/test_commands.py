"""The command line."""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest
from harness.collector import Collector, dichroic_bin
from harness.demo import Embedder
from harness.process import ROOT, wait_until


def dichroic(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(dichroic_bin()), *args], capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def collector():
    with Embedder() as embedder, Collector(scrape=[embedder.url]) as collector:
        wait_until(lambda: "embedder_texts_total" in collector.metrics(), 20, "a scraped page")
        yield collector


COMMANDS = ["run", "check", "tap", "catalog", "ledger", "lint", "attach", "detach", "discover", "completions", "man"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_shows_an_example_and_exit_codes(command):
    shown = dichroic(command, "--help")
    assert shown.returncode == 0
    assert f"dichroic {command}" in shown.stdout.split("Example")[1]
    assert "Exit codes: 0 " in shown.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_every_command(shell):
    shown = dichroic("completions", shell)
    assert shown.returncode == 0, shown.stderr
    assert all(command in shown.stdout for command in COMMANDS)
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=shown.stdout, text=True, check=True)


def test_the_program_and_every_command_have_a_manual_page(tmp_path):
    folder = tmp_path / "man1"
    shown = dichroic("man", str(folder))
    assert (shown.returncode, shown.stdout) == (0, ""), shown.stderr
    pages = {path.name: path.read_text() for path in folder.iterdir()}
    assert set(pages) == {"dichroic.1", *(f"dichroic-{command}.1" for command in COMMANDS)}
    assert all(f"dichroic\\-{command}(1)" in pages["dichroic.1"] for command in COMMANDS)
    assert ".SH OPTIONS" in pages["dichroic-run.1"] and "Exit codes: 0 " in pages["dichroic-run.1"]
    (tmp_path / "file").touch()
    refused = dichroic("man", str(tmp_path / "file" / "man1"))
    assert refused.returncode == 1 and "cannot write the manual pages to " in refused.stderr


def test_lint_reports_problems_and_fails_only_when_strict(collector):
    shown = collector.run_command("lint")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(collector.run_command("lint", "--format", "json").stdout)
    assert shown.stdout.splitlines()[-1] in ("no problems found", f"{document['warnings']} warnings, {document['notes']} notes")
    strict = collector.run_command("lint", "--strict")
    assert (strict.returncode == 0) == (document["warnings"] == 0)


@pytest.mark.parametrize(
    ("arguments", "argument", "message"),
    [
        (["run", "--scrape", "https://127.0.0.1/metrics"], "--scrape <URL>", "unsupported scheme"),
        (["tap", "a..b"], "[PATTERN]...", "empty segment"),
        (["tap", "--where", "x"], "--where <LABEL=GLOB>", "expected LABEL=GLOB, such as status=5*"),
        (["tap", "--where", "=x"], "--where <LABEL=GLOB>", "expected LABEL=GLOB, such as status=5*"),
        (["tap", "--replay", "x"], "--replay <DURATION>", "expected a number with a unit, such as 500ms"),
        (["tap", "--kind", "metric", "--every", "2"], "--every <DURATION>", "expected a number with a unit"),
        (["catalog", "a..b"], "[PATTERN]...", "empty segment"),
        (["attach", "a@127.0.0.1", "--for", "x"], "--for <DURATION>", "expected a number with a unit"),
        (["attach", "a"], "<NODE>", "expected name@host"),
        (["detach", "a@127.0.0.1", "--epmd", "127.0.0.1:x"], "--epmd <HOST:PORT>", "expected HOST:PORT"),
        (["discover", "a@127.0.0.1", "--live", "601s"], "--live <DURATION>", "the maximum is 600s"),
        (["lint", "a@127.0.0.1", "--live", "x"], "--live <DURATION>", "expected a number with a unit"),
    ],
)
def test_an_invalid_argument_is_a_usage_error(arguments, argument, message):
    result = dichroic(*arguments)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: invalid value '") and f"for '{argument}': " in result.stderr, result.stderr
    assert message in result.stderr and "try '--help'" in result.stderr, result.stderr
    assert result.stdout == ""


def test_an_unknown_command_is_a_usage_error():
    assert dichroic("fly").returncode == 2


def valid_file(folder: Path) -> str:
    path = folder / "dichroic.yaml"
    path.write_text("admin: { listen: 127.0.0.1:0 }\n")
    return str(path)


def printing(folder: Path) -> list[list[str]]:
    """Commands that print to standard output and need no collector."""
    check = ["check", "--config", valid_file(folder)]
    completions = [["completions", shell] for shell in ("bash", "zsh", "fish")]
    return [check, [*check, "--print"], ["check", "--schema"], *completions, ["--help"], ["tap", "--help"], ["--version"]]


def written_to(output: IO[str], arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(dichroic_bin()), *arguments], stdout=output, stderr=subprocess.PIPE, text=True, timeout=120, check=False
    )


def test_a_write_error_on_standard_output_exits_with_1_and_a_message(tmp_path, collector):
    admin = ["--admin", collector.admin]
    for arguments in [*printing(tmp_path), ["ledger", *admin], ["catalog", *admin], ["lint", *admin]]:
        with open("/dev/full", "w") as full:
            result = written_to(full, arguments)
        assert result.returncode == 1, arguments
        assert result.stderr.startswith("dichroic: cannot write to standard output: No space left"), (arguments, result.stderr)
        assert result.stderr.count("\n") == 1, (arguments, result.stderr)


def test_a_closed_pipe_ends_a_command_silently(tmp_path, collector):
    admin = ["--admin", collector.admin]
    for arguments in [*printing(tmp_path), ["ledger", *admin], ["tap", "embedder_*", "--kind", "metric", *admin]]:
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "w") as closed:
            result = written_to(closed, arguments)
        assert (result.returncode, result.stderr) == (0, ""), arguments


def test_run_reports_a_write_error_on_standard_output(tmp_path):
    path = tmp_path / "dichroic.yaml"
    config = {
        "receivers": {"otlp": {"grpc": "off", "http": "off"}},
        "exporters": {"prometheus": {"listen": "127.0.0.1:0"}},
        "admin": {"listen": "127.0.0.1:0"},
        "security": {"local_socket": {"path": str(tmp_path / "s.sock")}},
    }
    path.write_text(json.dumps(config))
    with open("/dev/full", "w") as full:
        result = written_to(full, ["run", "--config", str(path)])
    assert result.returncode == 1, result.stderr
    assert "standard output: No space left" in result.stderr and "panicked" not in result.stderr, result.stderr


def test_the_version_is_printed():
    assert dichroic("--version").stdout.startswith("dichroic 0.")


def test_an_invalid_configuration_exits_with_78_and_reports_position_and_help(tmp_path):
    path = tmp_path / "dichroic.yaml"
    path.write_text("receivers:\n  otlp: { grcp: 127.0.0.1:4317 }\n")
    for command in (["check", "--config", str(path)], ["run", "--config", str(path)]):
        result = dichroic(*command)
        assert result.returncode == 78
        assert result.stderr.startswith(f"dichroic: {path}:2:11: receivers.otlp.grcp: unknown key\n")
        assert result.stderr.count(str(path)) == result.stderr.count("unknown key") == 1
        assert "did you mean grpc?" in result.stderr


def test_the_sidecar_example_is_valid():
    result = dichroic("check", "--config", str(ROOT / "examples" / "sidecar" / "dichroic.yaml"))
    assert result.returncode == 0, result.stderr


def test_check_prints_the_configuration_in_effect_without_secrets(tmp_path):
    path = tmp_path / "dichroic.yaml"
    path.write_text("admin: { token: 0123456789abcdef0123 }\n")
    shown = dichroic("check", "--config", str(path), "--print")
    assert shown.returncode == 0, shown.stderr
    assert "0123456789abcdef" not in shown.stdout and "redacted" in shown.stdout
    again = tmp_path / "again.yaml"
    again.write_text(shown.stdout.replace("<redacted>", "0123456789abcdef"))
    assert dichroic("check", "--config", str(again)).returncode == 0, "the printed configuration is valid"


def test_a_busy_port_fails_the_start_and_names_the_key(collector, tmp_path):
    path = tmp_path / "dichroic.yaml"
    busy = {**collector.config, "exporters": {"prometheus": {"listen": collector.prometheus}}}
    busy["security"] = {"local_socket": {"path": str(tmp_path / "s.sock")}}
    path.write_text(json.dumps(busy))
    result = dichroic("run", "--config", str(path))
    assert result.returncode == 1
    assert "exporters.prometheus.listen" in result.stderr


def test_the_catalog_has_type_unit_labels_and_source(collector):
    entry = next(m for m in collector.catalog()["metrics"] if m["name"] == "embedder_batch_duration_seconds")
    assert entry["type"] == "histogram"
    assert entry["labels"]["model"]["values"] == 2
    shown = collector.run_command("catalog", "embedder_*")
    assert shown.returncode == 0, shown.stderr
    assert "embedder_batch_duration_seconds" in shown.stdout and "model(2)" in shown.stdout


def test_the_ledger_is_printed_and_checked(collector):
    shown = collector.run_command("ledger", "--check")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "the ledger balances" in shown.stdout
    assert {"STAGE", "P50", "P99.9", "ingest_lag"} <= set(shown.stdout.split())
    document = json.loads(collector.run_command("ledger", "--format", "json").stdout)
    assert document["balances"] is True
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert set(stages) == {"page", "ingest_lag"}
    lag = stages["ingest_lag"]
    assert lag["count"] > 0 and 0 < lag["p50_seconds"] <= lag["p99_seconds"] <= lag["p999_seconds"] <= lag["max_seconds"]
    assert lag["max_seconds"] <= 1.01 * lag["sum_seconds"]


def test_tap_prints_points_as_json_lines_and_stops_at_the_limit(collector):
    shown = collector.run_command("tap", "embedder_*", "--kind", "metric", "--format", "json", "--limit", "3")
    assert shown.returncode == 0, shown.stderr
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert len(rows) == 3
    assert all(row["type"] == "point" and row["name"].startswith("embedder_") for row in rows)


def test_tap_filters_by_label(collector):
    where = ["--where", "model=e5*"]
    shown = collector.run_command("tap", "embedder_texts_total", "--kind", "metric", "--format", "json", "--limit", "2", *where)
    assert shown.returncode == 0, shown.stderr
    assert {json.loads(line)["labels"]["model"] for line in shown.stdout.splitlines()} == {"e5-large"}


def test_tap_reports_an_invalid_request_with_the_collectors_message(collector):
    shown = collector.run_command("tap", *(f"a.b{n}" for n in range(65)))
    assert shown.returncode == 1
    assert shown.stderr == "dichroic: match: 65 patterns; must be 1 to 64\n"
    shown = collector.run_command("tap", "embedder_*", "--kind", "metric", "--where", "modell=e5*")
    assert shown.returncode == 1
    message = 'dichroic: where: no metric that matches has "modell"; did you mean "model"?'
    assert shown.stderr.startswith(message) and shown.stderr.count("\n") == 1, shown.stderr


def test_tap_prints_histograms_with_count_and_sum(collector):
    arguments = ["embedder_batch_duration_seconds", "--kind", "metric", "--limit", "1"]
    shown = collector.run_command("tap", *arguments)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r" count=\d+ sum=[0-9.e+-]+( s)?$", shown.stdout.strip()), shown.stdout


def test_tap_refuses_an_interval_for_events(collector):
    shown = collector.run_command("tap", "--every", "2s")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "dichroic: --every is for points of metrics; add --kind metric\n"


def test_catalog_answers_a_typo_with_near_names(collector):
    shown = collector.run_command("catalog", "embeder_texts_total")
    assert shown.returncode == 0, shown.stderr
    message = 'dichroic: warning: "embeder_texts_total" matches no name that the collector knows yet; did you mean "embedder_texts'
    assert shown.stderr.startswith(message), shown.stderr


def test_what_a_limit_drops_is_on_the_page_in_the_log_and_in_lint():
    with Embedder() as embedder, Collector(scrape=[embedder.url], config={"limits": {"series": 1}}) as collector:
        dropped = 'reason="series_limit"'
        wait_until(lambda: dropped in collector.metrics(), 60, "the dropped samples on the page")
        page = collector.metrics()
        for name in ("up{", "scrape_samples_scraped{", "dichroic_series{", "dichroic_series_limit{"):
            assert re.search(f"^{re.escape(name)}", page, re.M), f"{name} is not in\n{page}"
        assert "embedder_" not in page
        wait_until(lambda: "limit reached; series are dropped" in collector.output(), 60, "a line of the log")
        findings = collector.api("/api/v1/lint")["findings"]
        assert [f["subject"] for f in findings if f["check"] == "limit_reached"] == ["limits.series"], findings


def test_tap_prints_why_the_collector_closed_the_stream():
    with Embedder() as embedder, Collector(scrape=[embedder.url]) as collector:
        where = ["tap", "embedder_*", "--kind", "metric", "--admin", collector.admin]
        with subprocess.Popen([str(dichroic_bin()), *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tap:
            assert tap.stdout is not None and tap.stderr is not None
            assert "embedder_" in tap.stdout.readline()
            collector.stop()
            _, message = tap.communicate(timeout=120)
    assert tap.returncode == 1
    assert message.startswith("dichroic: the collector closed the stream: "), message


def test_a_command_without_a_collector_reports_what_to_do():
    result = dichroic("ledger", "--admin", "127.0.0.1:1")
    assert result.returncode == 1
    assert "dichroic run" in result.stderr and "--admin" in result.stderr
