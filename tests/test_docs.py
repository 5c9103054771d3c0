"""The documentation is correct: snippets are valid, references are complete, links resolve."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest
from actors import samples
from harness.collector import Collector, dichroic_bin
from harness.demo import Embedder, Recommender, Shop
from harness.process import ROOT, wait_until

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.M | re.S)


def snippets(*languages: str) -> Iterator[object]:
    for page in PAGES:
        for number, (language, body) in enumerate(FENCE.findall(page.read_text()), 1):
            if language in languages:
                yield pytest.param(body, id=f"{page.name}-{number}")


def configurations() -> list[object]:
    """YAML that is a whole configuration or whole sections of one; Prometheus's own files are not."""
    sections = ("receivers:", "metrics:", "exporters:", "limits:", "security:", "telemetry:", "admin:")
    return [p for p in snippets("yaml") if p.values[0].lstrip().startswith(sections)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("snippet", configurations())
def test_configuration_snippets_are_valid(snippet, tmp_path):
    file = tmp_path / "dichroic.yaml"
    file.write_text(snippet)
    env = {"DICHROIC_TOKEN": "0123456789abcdef0123456789abcdef"}
    done = subprocess.run([dichroic_bin(), "check", "--config", file], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("snippet", list(snippets("python")))
def test_python_snippets_type_check(snippet, tmp_path):
    ast.parse(snippet)
    file = tmp_path / "snippet.py"
    file.write_text(snippet)
    env = {"MYPYPATH": str(ROOT / "python-shim" / "src"), "PATH": "/usr/bin:/bin"}
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), str(file)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def commands() -> set[str]:
    """Every `dichroic …` command line of the pages."""
    found = set()
    for snippet in snippets("console", "sh", "bash"):
        for line in snippet.values[0].splitlines():  # type: ignore[attr-defined]
            line = line.split("  #")[0].removeprefix("$ ").split(" | ")[0].split(" > ")[0].strip()
            if line.startswith("dichroic "):
                found.add(line)
    return found


@pytest.mark.parametrize("command", sorted(commands()))
def test_commands_and_their_options_exist(command):
    _, *arguments = shlex.split(command)
    if arguments[0].startswith("-"):
        arguments = []
    subcommand = arguments[:1]
    help_text = subprocess.run([dichroic_bin(), *subcommand, "--help"], capture_output=True, text=True, check=False)
    assert help_text.returncode == 0, help_text.stderr
    for option in (a for a in arguments if a.startswith("--")):
        assert re.search(rf"{option}\b", help_text.stdout), f"{command}: no option {option}"


def test_make_targets_of_the_pages_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        named = set(re.findall(r"(?:^|`|\$ )make ([a-z-]+)", page.read_text(), re.M))
        assert named <= targets, f"{page.name}: {sorted(named - targets)}"


def test_links_between_files_of_the_repository_resolve():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "findings").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_files_that_the_pages_name_exist():
    for page in PAGES:
        for path in re.findall(
            r"`((?:collector|exporters|dashboards|examples|bench|docs|scripts|tests|beam-relay|findings)/[\w./-]+)`",
            page.read_text(),
        ):
            assert (ROOT / path).exists() or "build/" in path, f"{page.name}: {path}"


def test_files_and_identifiers_of_the_architecture_page_exist():
    """Of its table "Where to change what": `path`, `path` (`item_in_it`), `Type::item` and `crate::Type`."""
    table = (ROOT / "ARCHITECTURE.md").read_text().split("## Where to change what")[1]
    sources = [p.read_text() for part in ("collector", "exporters") for p in (ROOT / part).rglob("src/**/*.rs")]
    paths = items = 0
    for path, item in re.findall(r"`([^`]+/[^`]*)`(?: \(`(\w+)`\))?", table):
        paths += 1
        assert (ROOT / path).exists(), path
        assert not item or re.search(rf"\b{item}\b", (ROOT / path).read_text()), f"{path}: no {item}"
    for owner, item in re.findall(r"`(\w+)::(\w+)`", table):
        items += 1
        defined = re.compile(rf"\b(?:fn|struct|enum|trait|mod|type) {item}\b|^    {item}:", re.M)
        named = [text for text in sources if defined.search(text)]
        assert named, f"{owner}::{item}: not defined"
        assert owner.islower() or any(re.search(rf"\b{owner}\b", text) for text in named), f"{owner}::{item}"
    assert paths >= 10, table
    assert items >= 2, table


def test_the_metrics_reference_has_every_family_of_the_collector_itself():
    reference = (ROOT / "docs" / "metrics.md").read_text()
    # Relays report their own account with the raw events that they send.
    streams = {"exporters": {"stream": {"retain": ["**"]}}}
    with Embedder() as embedder, Collector([embedder.url], streams) as collector, Shop(collector, rate=50), Recommender(collector):

        def families() -> set[str]:
            page = samples(collector.metrics())
            return {re.sub(r"_(bucket|sum|count)$", "", name) for name, labels, _ in page if labels.get("job") == "dichroic"}

        def complete() -> set[str] | None:
            found = families()
            return found if len(found) > 20 and any(name.startswith("dichroic_relay_") for name in found) else None

        own = wait_until(complete, 30, "the collector's own families and a relay's account on the page")
    missing = {name for name in own - {"target_info"} if f"`{name}`" not in reference}
    assert not missing, sorted(missing)


def test_the_metrics_reference_has_every_reason_for_a_drop():
    reference = (ROOT / "docs" / "metrics.md").read_text()
    terms = ROOT / "collector" / "pipeline" / "src" / "ledger.rs"
    reasons = re.findall(r"^    [A-Z]\w+ = \"(\w+)\",", terms.read_text(), re.M)
    assert len(reasons) > 15
    assert [r for r in reasons if f"`{r}`" not in reference] == []
