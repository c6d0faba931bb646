"""The check of queries, checked; `tests/kubernetes` holds those of the dashboard against what is really emitted."""

import json
import re

import promql
import pytest
import yaml

KNOWN = {"asked_total": {"pool", "status"}, "asked_bucket": {"pool", "le"}}


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ('sum by (pool) (rate(asked_total{status=~"5.."}[5m])) > 0', []),
        ("histogram_quantile(0.9, sum by (le, pool) (rate(asked_bucket[5m])))", []),
        ("rate(asked[5m])", ["asked: no such series"]),
        ('asked_total{model="x"}', ["asked_total: no label model"]),
        (
            "sum by (model) (asked_total) / sum by (pool) (other)",
            ["asked_total: no label model", "other: no such series"],
        ),
    ],
)
def test_what_nobody_emits_is_found(query: str, wrong: list[str]) -> None:
    assert promql.unknown(query, KNOWN) == wrong


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("sum by (pool) (asked_total)", {"pool"}),
        ("rate(asked_total[5m])", {"pool", "status", "instance", "job"}),
        ("histogram_quantile(0.9, sum by (le, pool) (rate(asked_bucket[5m])))", {"pool"}),
    ],
)
def test_the_labels_of_a_result_are_known(query: str, labels: set[str]) -> None:
    assert promql.shown(query, KNOWN) == labels


def test_every_query_is_one() -> None:
    found = [*promql.queries()]
    assert len(found) > 50
    for _, query in found:
        promql.unknown(query, KNOWN)


def test_panels_do_not_lie_on_one_another() -> None:
    taken = set()
    for panel in json.loads((promql.GRAFANA / "pointsman.json").read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_alert_is_told_of() -> None:
    text = (promql.GRAFANA.parents[1] / "docs" / "operations.md").read_text()
    told = text[text.index("## Metrics and alerts") :]
    groups = yaml.safe_load((promql.GRAFANA / "alerts.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert set(re.findall(r"`([A-Z]\w+)`", told)) >= alerts
    known = alerts | {"DEFAULT", "PREFIX_CACHE", "Programmed"}
    table = text[text.index("## What fails") : text.index("Answers that the gateway")]
    assert set(re.findall(r"`([A-Z][A-Za-z]+)`", table)) <= known
