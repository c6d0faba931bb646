"""The times and tokens of a finished request, as Envoy's entry tells them."""

from __future__ import annotations

from typing import NamedTuple

from picker.exchange import NAMESPACE
from picker.tallies import Tally
from picker.usage import Usage, read
from protos.pointsman.envoy.v1.access_log_pb2 import HttpAccessLogEntry

# Where Envoy was told to put these (translators.headers).
_USAGE, _ANSWERED, _FIRST_BYTE = "usage", "model", "first_byte_us"
_STREAM = "text/event-stream"


class Figures(NamedTuple):
    """Times in seconds, the tokens and the model if the answer told them, and whether it streamed.

    `first` is the time to the first byte of the answer's body.
    """

    seconds: float
    first: float | None
    usage: Usage | None
    streamed: bool
    model: str = ""

    @classmethod
    def of(cls, entry: HttpAccessLogEntry) -> Figures:
        """Read an entry."""
        common = entry.common_properties
        usage, model = None, ""
        if NAMESPACE in common.metadata.filter_metadata:
            fields = common.metadata.filter_metadata[NAMESPACE].fields
            if _USAGE in fields:
                usage = read(fields[_USAGE].string_value)
            if _ANSWERED in fields:
                model = fields[_ANSWERED].string_value
        streamed = entry.response.response_headers.get("content-type", "").startswith(_STREAM)
        duration = common.duration
        return cls(duration.seconds + duration.nanos * 1e-9, _first_byte(entry), usage, streamed, model)

    @property
    def per_token(self) -> float | None:
        """The time of each token after the first; None for an answer that came at once or does not tell."""
        if self.usage is None or not self.streamed or self.first is None or self.usage.completion <= 1:
            return None
        return max(0.0, self.seconds - self.first) / (self.usage.completion - 1)

    def add_to(self, tally: Tally) -> None:
        """Add all of them to a tally."""
        tally.duration.add(self.seconds)
        if self.first is not None:
            tally.first_byte.add(self.first)
            if self.streamed:
                tally.first_token.add(self.first)
        usage = self.usage
        if usage is None:
            return
        tally.prompt_tokens.add(usage.prompt)
        tally.completion_tokens.add(usage.completion)
        if usage.cached is not None:
            tally.cached_tokens.add(usage.cached)
        if usage.completion:
            tally.overall_per_token.add(self.seconds / usage.completion)
        if (per_token := self.per_token) is not None:
            tally.per_token.add(per_token)

    def tokens(self) -> dict[str, object]:
        """Write the tokens out for the log."""
        if self.usage is None:
            return {}
        return {
            "prompt_tokens": self.usage.prompt,
            "cached_tokens": self.usage.cached,
            "completion_tokens": self.usage.completion,
            "tpot_ms": milliseconds(self.per_token),
        }


def milliseconds(seconds: float | None) -> float | None:
    """Write a time for the log."""
    return None if seconds is None else round(seconds * 1e3, 3)


def _first_byte(entry: HttpAccessLogEntry) -> float | None:
    """Read when the answer's body began, or the answer itself where it has none or nobody says.

    Servers that stream send their headers long before the first token.
    """
    common = entry.common_properties
    body = common.custom_tags.get(_FIRST_BYTE, "")
    if body.isdecimal():
        return int(body) * 1e-6
    if not common.HasField("time_to_first_downstream_tx_byte"):
        return None
    first = common.time_to_first_downstream_tx_byte
    return float(first.seconds + first.nanos * 1e-9)
