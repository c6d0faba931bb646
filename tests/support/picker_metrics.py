"""The picker's own metrics, as Prometheus reads them."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families
from running import Running

Sample = tuple[str, frozenset[tuple[str, str]]]


class Samples:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> float:
        """Sum the samples of this name that have these labels, among others."""
        wanted = labels.items()
        return sum(
            value for (found, has), value in self._values.items() if found == name and wanted <= dict(has).items()
        )

    def values_of(self, label: str, name: str, **labels: str) -> set[str]:
        """The values of one label among the samples of this name that have these labels, among others."""
        wanted = labels.items()
        return {dict(has)[label] for found, has in self._values if found == name and wanted <= dict(has).items()}

    def by(self, label: str, name: str, **labels: str) -> Mapping[str, float]:
        """Sum as `total` does, for each value of one label."""
        values = {dict(has).get(label, "") for (found, has) in self._values if found == name}
        return {value: self.total(name, **{label: value}, **labels) for value in values}


async def scrape(running: Running) -> Samples:
    async with running.session.get(f"http://{running.installation.metrics}/metrics") as response:
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        return Samples(await response.text())
