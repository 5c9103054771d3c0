"""The JSON Schema of `dichroic check --schema` accepts what the collector accepts, and rejects its mistakes."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.collector import dichroic_bin
from harness.process import ROOT
from jsonschema import Draft202012Validator

VALID: list[dict[str, Any]] = [
    {},
    {"limits": {"series": 5, "memory": "512 MiB", "replay_bytes": 0, "replay_time": "1m30s"}},
    {"receivers": {"otlp": {"grpc": False, "http": "127.0.0.1:4318"}}},
    {"receivers": {"beam": {"attach": [{"node": "a@127.0.0.1", "tls": {"ca_file": "/ca.pem"}, "transport": "socket"}]}}},
    {
        "receivers": {
            "prometheus": {
                "scrape_configs": [
                    {
                        "job_name": "a",
                        "scrape_interval": "5s",
                        "body_size_limit": "10MB",
                        "static_configs": [{"targets": ["127.0.0.1:8000"], "labels": {"env": "dev"}}],
                    }
                ]
            }
        }
    },
    {"metrics": {"packs": ["vm", "ecto"], "naming": "promex", "variables": {"ecto_prefix": ["shop.repo"]}}},
    {
        "metrics": {
            "definitions": [
                {
                    "name": "a.b",
                    "type": "distribution",
                    "event": "x.y",
                    "measurement": {"path": "m.0", "from": "metadata", "transform": ["length", {"cut": 5}, {"allow": ["a", 1]}]},
                    "unit": ["native", "ms"],
                    "buckets": [0.1, 1],
                    "tags": {"plan": "account.plan", "route": {"carry": "route"}},
                    "keep": [{"path": "kind", "eq": "7"}],
                    "carry": {"route": {"event": "x.z", "path": "route", "clear": ["x.start", "x.stop"]}},
                },
                {
                    "name": "c.d",
                    "type": "summary",
                    "event": "x.y",
                    "measurement": ["a", "b"],
                    "measurement_tag": "t",
                    "tags": ["u"],
                },
            ]
        }
    },
]

INVALID: list[dict[str, Any]] = [
    {"zebra": 1},
    {"limits": {"series": -1}},
    {"limits": {"series": "many"}},
    {"limits": {"memory": "many"}},
    {"limits": {"replay_time": 5}},
    {"receivers": {"otlp": {"grpc": True}}},
    {"receivers": {"beam": {"logs": {"level": "loud"}}}},
    {"receivers": {"beam": {"attach": [{"cookie_file": "/c"}]}}},
    {"receivers": {"beam": {"attach": [{"node": "a@127.0.0.1", "port": 70000}]}}},
    {"receivers": {"prometheus": {"scrape_configs": [{"job_name": "a", "scrape_intervall": "5s"}]}}},
    {"metrics": {"packs": "everything"}},
    {"metrics": {"definitions": [{"name": "a.b", "type": "zebra", "event": "x"}]}},
    {"metrics": {"definitions": [{"name": "a.b", "type": "counter", "event": "x", "keep": {"path": "a"}}]}},
    {"admin": {"token": "short"}},
]


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    shown = subprocess.run([str(dichroic_bin()), "check", "--schema"], capture_output=True, text=True, check=True)
    schema = json.loads(shown.stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def accepted(path: Path, document: dict[str, Any]) -> bool:
    path.write_text(json.dumps(document))
    done = subprocess.run([str(dichroic_bin()), "check", "--config", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 78), done.stderr
    return done.returncode == 0


def test_the_sidecar_example_matches_the_schema(validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load((ROOT / "examples" / "sidecar" / "dichroic.yaml").read_text()))


@pytest.mark.parametrize("document", VALID, ids=json.dumps)
def test_a_valid_document_is_accepted_by_both(validator: Draft202012Validator, tmp_path: Path, document: dict[str, Any]) -> None:
    validator.validate(document)
    assert accepted(tmp_path / "dichroic.yaml", document)


@pytest.mark.parametrize("document", INVALID, ids=json.dumps)
def test_an_invalid_document_is_rejected_by_both(validator: Draft202012Validator, tmp_path: Path, document: dict[str, Any]) -> None:
    assert not validator.is_valid(document)
    assert not accepted(tmp_path / "dichroic.yaml", document)


def test_every_example_of_the_schema_is_valid_and_every_key_is_described(validator: Draft202012Validator) -> None:
    schema = validator.schema
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for key, value in section.get("properties", {}).items():
            assert value.get("description") or "$ref" in value, key
            for example in value.get("examples", []):
                if "${" not in str(example):
                    Draft202012Validator({**value, "$defs": schema["$defs"]}).validate(example)
