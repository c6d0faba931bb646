"""What people should notice of a change of statuses, as Kubernetes Events.  Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resources import WARNINGS, Key

Json = Mapping[str, Any]

# Conditions whose turning to True is news as well.
_GOOD_NEWS = frozenset({"Programmed"})
# A condition that is False for these reasons will come about by itself.
_PASSING = frozenset({"Pending", "AddressNotAssigned"})


@dataclass(frozen=True, slots=True)
class Remark:
    """An Event about an object."""

    key: Key
    warning: bool
    reason: str
    note: str


def remarks(before: Mapping[Key, Json], after: Mapping[Key, Json]) -> Iterator[Remark]:
    """Yield what is new: a condition that turned False, or that says otherwise why it is, and one that came about."""
    for key, status in after.items():
        old = before.get(key)
        if old == status:
            continue
        known = dict(_conditions(old)) if old is not None else {}
        for name, condition in _conditions(status):
            last = known.get(name)
            if last is not None and _said(last) == _said(condition):
                continue
            wrong = "True" if condition["type"] in WARNINGS else "False"
            if condition["status"] == wrong and condition["reason"] not in _PASSING:
                yield Remark(key, warning=True, reason=condition["reason"], note=f"{name[1]}: {condition['message']}")
            elif condition["status"] == "True" and condition["type"] in _GOOD_NEWS and last is not None:
                yield Remark(key, warning=False, reason=condition["reason"], note="the configuration is in force")


def _said(condition: Json) -> tuple[str, str, str]:
    return condition["status"], condition["reason"], condition["message"]


def _conditions(status: Json) -> Iterator[tuple[tuple[str, str], Json]]:
    """Yield the conditions of an object and of its parents or ancestors; listeners say the same as their Gateway."""
    for condition in status.get("conditions", ()):
        yield ("", condition["type"]), condition
    for name, subject in (("parents", "parentRef"), ("parent", "parentRef"), ("ancestors", "ancestorRef")):
        for entry in status.get(name, ()):
            where = "/".join(str(entry[subject].get(part, "")) for part in ("namespace", "name", "sectionName", "port"))
            for condition in entry.get("conditions", ()):
                yield (where, condition["type"]), condition
