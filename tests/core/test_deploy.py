"""What operators put into Prometheus and Grafana: it must speak of metrics that exist, and of all that alarm."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from portwatch.metrics import Metrics

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
RULE_TESTS = ROOT / "deploy/prometheus/alerts.test.yml"
DASHBOARD = json.loads((ROOT / "deploy/grafana/portwatch.json").read_text())
ALERTS = re.findall(r"alert: (\w+)", RULES.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]

SCRAPED = {"instance", "job", "le"}
"""Labels that come from Prometheus, or with every histogram."""


def told() -> dict[str, set[str]]:
    """Return every series name that an agent shows, and its labels."""
    metrics = Metrics("1", bridges=("br-int", "br-tun"), reasons=("stale",))
    series: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:{(.*)})? ", metrics.render().decode(), re.MULTILINE):
        series.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return series


def promtool(*arguments: str) -> str:
    """Return what promtool says; it must be content."""
    checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout


def check(query: str) -> None:
    """The query must ask for series that are there, by labels that they have."""
    series = told()
    for name, selector in re.findall(r"\b(portwatch_\w+)(?:{([^}]*)})?", query):
        assert name in series, name
        assert set(re.findall(r"(\w+)\s*(?:=~|!=|=)", selector)) <= series[name] | SCRAPED, name
    grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
    assert grouped <= set.union(*series.values()) | SCRAPED


def test_promtool_accepts_the_rules() -> None:
    assert f"SUCCESS: {len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))


def test_each_alert_fires_by_its_series_alone_and_stops() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(RULE_TESTS))
    tested = set(re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text()))
    assert tested == set(ALERTS)


@pytest.mark.parametrize("query", re.findall(r"expr: (?:>-\s+)?(.*?)\n +(?:for|labels):", RULES.read_text(), re.DOTALL))
def test_the_rules_ask_for_what_there_is(query: str) -> None:
    check(query)


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboard_asks_for_what_there_is(query: str) -> None:
    check(query)


def test_the_dashboard_shows_every_metric_once_at_least() -> None:
    asked = " ".join(QUERIES)

    assert not [name for name in told() if not name.endswith(("_sum", "_count")) and name not in asked]


def test_the_dashboard_belongs_to_no_data_source_of_ours() -> None:
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["description"] for panel in PANELS)


def test_each_alert_has_its_page_in_the_docs() -> None:
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs/alerts.md").read_text(), re.MULTILINE)

    assert headings == ALERTS
    assert re.findall(r"runbook: (\S+)", RULES.read_text()) == [f"docs/alerts.md#{name.lower()}" for name in ALERTS]
