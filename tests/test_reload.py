"""SIGHUP: unchanged parts keep running; an invalid file is rejected and the old configuration stays."""

import json
import signal

from actors import total
from harness.collector import Collector
from harness.demo import Embedder
from harness.process import wait_until


def hang_up(collector: Collector) -> None:
    collector.child.send_signal(signal.SIGHUP)


def scrapes(collector: Collector, url: str) -> int:
    return next(t["scrapes"] for t in collector.sources()["targets"] if t["url"] == url)


def test_a_new_target_is_scraped_a_kept_one_continues_and_a_removed_one_expires():
    with Embedder() as first, Embedder() as second, Collector(scrape=[first.url]) as collector:
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the first target")
        before = scrapes(collector, first.url)
        jobs = collector.config["receivers"]["prometheus"]["scrape_configs"]
        host = lambda url: url.split("/")[2]
        jobs[0]["static_configs"][0]["targets"].append(host(second.url))
        collector.config_file.write_text(json.dumps(collector.config))
        hang_up(collector)
        wait_until(lambda: total(collector.metrics(), "up") == 2, 20, "both targets")
        assert scrapes(collector, first.url) >= before, "the first target is not restarted"
        jobs[0]["static_configs"][0]["targets"] = [host(second.url)]
        collector.config_file.write_text(json.dumps(collector.config))
        hang_up(collector)
        wait_until(lambda: len(collector.sources()["targets"]) == 1, 20, "the first target to expire")
        assert collector.ledger()["balances"]


def test_an_invalid_file_is_rejected_in_the_log_and_nothing_changes():
    with Embedder() as embedder, Collector(scrape=[embedder.url]) as collector:
        wait_until(lambda: total(collector.metrics(), "up") == 1, 20, "the target")
        collector.config_file.write_text("receivers: { otpl: {} }\n")
        hang_up(collector)
        wait_until(lambda: "invalid configuration" in collector.output(), 10, "the rejection in the log")
        assert "otpl" in collector.output()
        assert total(collector.metrics(), "up") == 1


def test_a_change_that_needs_a_restart_is_named():
    with Collector() as collector:
        collector.config["limits"] = {"series": 7}
        collector.config_file.write_text(json.dumps(collector.config))
        hang_up(collector)
        wait_until(lambda: "limits.series" in collector.output(), 10, "the section in the log")
        assert "restart" in collector.output()
