"""What PromQL queries ask for, held against what programs emit."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import yaml

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"

# What Prometheus adds to every series of a target.
_OF_TARGETS = {"instance", "job"}
Labels = dict[str, set[str]]
"""The labels of each series, by its name."""


def queries() -> Iterator[tuple[str, str]]:
    """Yield all queries of the dashboard and of the alerts, each with where it stands; variables have values."""
    dashboard = json.loads((GRAFANA / "pointsman.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"].replace("$__rate_interval", "5m").replace("$pool", ".*")
            yield f"panel {panel['title']!r}", text
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
            assert found is not None, variable["query"]
            yield f"variable {variable['name']!r}", f"sum by ({found[2]}) ({found[1]})"
    for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


def labels_used() -> Iterator[tuple[str, str, set[str]]]:
    """Yield for each legend and summary where it stands, its query, and the labels that it shows."""
    dashboard = json.loads((GRAFANA / "pointsman.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            yield f"panel {panel['title']!r}", target["expr"].replace("$__rate_interval", "5m"), shown
    for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
            yield f"alert {rule['alert']}", rule["expr"], shown


def emitted(*pages: str) -> Labels:
    """Read what the pages of /metrics have. Not by the client's parser: it gives Envoy's counters another name."""
    found: Labels = defaultdict(set)
    for page in pages:
        for name, labels in re.findall(r"^(\w+)(\{.*\})? \S+$", page, re.MULTILINE):
            found[name] |= set(re.findall(r'(\w+)="(?:[^"\\]|\\.)*"', labels))
    return found


def unknown(query: str, known: Mapping[str, set[str]]) -> list[str]:
    """Return the series and the labels that a query names and nobody emits. Raises ValueError for what is no query."""
    return [*_unknown(promql_parser.parse(query), known)[0]]


def shown(query: str, known: Mapping[str, set[str]]) -> set[str]:
    """Return the labels that a query's result has, as far as its series have them."""
    return _unknown(promql_parser.parse(query), known)[1]


def _series(node: Any) -> str:
    """Return the name of the first series of an expression."""
    while not isinstance(node, promql_parser.VectorSelector):
        node = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else _first(node)
    return str(node.name)


def _first(node: Any) -> Any:
    if isinstance(node, promql_parser.Call):
        return next(each for each in node.args if not isinstance(each, promql_parser.NumberLiteral))
    return node.lhs if isinstance(node, promql_parser.BinaryExpr) else node.expr


def _unknown(node: Any, known: Mapping[str, set[str]]) -> tuple[list[str], set[str]]:
    """Return what is unknown in an expression, and the labels of its result."""
    while isinstance(node, promql_parser.MatrixSelector | promql_parser.ParenExpr):
        node = node.vector_selector if isinstance(node, promql_parser.MatrixSelector) else node.expr
    if isinstance(node, promql_parser.VectorSelector):
        return _of_selector(node, known)
    if isinstance(node, promql_parser.AggregateExpr):
        found, labels = _unknown(node.expr, known)
        kept = set(node.modifier.labels) if node.modifier is not None else set()
        # Of a series that is not there nothing is known.
        lost = sorted(kept - labels) if labels else ()
        return found + [f"{_series(node.expr)}: no label {name}" for name in lost], kept
    if isinstance(node, promql_parser.BinaryExpr):
        left, right = _unknown(node.lhs, known), _unknown(node.rhs, known)
        return left[0] + right[0], left[1] or right[1]
    if isinstance(node, promql_parser.Call):
        parts = [_unknown(each, known) for each in node.args]
        labels = {name for part in parts for name in part[1]}
        gone = {"le"} if node.func.name == "histogram_quantile" else set()
        return [line for part in parts for line in part[0]], labels - gone
    assert isinstance(node, promql_parser.NumberLiteral), f"not checked: {node}"
    return [], set()


def _of_selector(node: Any, known: Mapping[str, set[str]]) -> tuple[list[str], set[str]]:
    if node.name not in known:
        return [f"{node.name}: no such series"], set()
    labels = known[node.name] | _OF_TARGETS
    named = {matcher.name for matcher in node.matchers.matchers}
    return [f"{node.name}: no label {name}" for name in sorted(named - labels)], labels
