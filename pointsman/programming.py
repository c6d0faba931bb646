"""Whether a Gateway is programmed: what its Envoys have taken in, beside what the translation says of it.  Pure.

Rules, and everything that decides on the condition lives in this file:

1. A Gateway is programmed when every Envoy connected for it, to whichever replica of the controller, has accepted what
   is published for its generation, and it has an address.  The first time an Envoy has to be ready behind that, too:
   whoever waits for the condition may ask at once.  An Envoy that joins later, or is ready no more, does not change
   it, nor does a controller that starts.
2. Until then the condition says what it said of the generation before, of which it bears the number.
3. Without any Envoy it is pending; what an Envoy refuses makes it false, in the Envoy's words, and so does an object
   that has to be there for it and that cannot be made.
4. What a replica says of another version than the one that is published here is news of another time: its Envoys have
   yet to take this one in.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
_MESSAGE_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Gateway can be reached: `kind` is IPAddress or Hostname."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Account:
    """How the Envoys of a Gateway that are connected to one replica stand to a version of what is published for it.

    refusal: what one of them has against it, with the object that it is about, or "".
    """

    version: str
    in_sync: bool
    refusal: str = ""


class Programming:
    """Remembers for each Gateway the generation that its Envoys have taken in."""

    def __init__(self) -> None:
        self._programmed: dict[str, int] = {}

    def forget_all_but(self, gateways: Iterable[str]) -> None:
        """Forget Gateways that are gone."""
        kept = set(gateways)
        self._programmed = {name: found for name, found in self._programmed.items() if name in kept}

    def knows(self, gateway: str) -> bool:
        """Whether anything is remembered of a Gateway."""
        return gateway in self._programmed

    def recall(self, gateway: str, status: Json) -> None:
        """Remember what a Gateway's status says that another controller, or this one before, has written."""
        for each in status.get("conditions", ()):
            if each.get("type") == "Programmed" and each.get("status") == "True":
                self._programmed.setdefault(gateway, int(each.get("observedGeneration") or 0))

    def describe(
        self,
        gateway: str,
        status: Json,
        accounts: Sequence[Account],
        addresses: Sequence[Address],
        troubles: Sequence[str] = (),
        version: str = "",
        *,
        answered: bool = True,
    ) -> Json:
        """Return a Gateway's status with its addresses, and with `Programmed` as its Envoys have it.

        accounts: those of all replicas that its Envoys are connected to. troubles: what of the objects that are made
        for it could not be made. version: of what is published for it. answered: whether an Envoy is ready there.
        """
        shown = [{"type": each.kind, "value": each.value} for each in addresses]
        accounts = [each if each.version == version else Account(version, in_sync=False) for each in accounts]
        conditions = [
            self._programmed_condition(gateway, each, accounts, addresses, troubles, answered=answered)
            if each["type"] == "Programmed"
            else each
            for each in status["conditions"]
        ]
        programmed = next((each for each in conditions if each["type"] == "Programmed"), None)
        listeners = [_listener(each, programmed) for each in status.get("listeners", ())]
        return {**status, "addresses": shown, "conditions": conditions, "listeners": listeners}

    def _programmed_condition(
        self,
        gateway: str,
        condition: Json,
        accounts: Sequence[Account],
        addresses: Sequence[Address],
        troubles: Sequence[str],
        *,
        answered: bool,
    ) -> Json:
        if condition["status"] != "True":
            # Nothing of it is served, whatever Envoys there are.
            return condition
        refusal = next((each.refusal for each in accounts if each.refusal), None)
        if refusal is not None:
            return _false(condition, "Invalid", refusal[:_MESSAGE_LIMIT])
        if troubles:
            return _false(condition, "NoResources", "; ".join(troubles)[:_MESSAGE_LIMIT])
        generation = condition["observedGeneration"]
        taken_in = bool(accounts) and all(each.in_sync for each in accounts)
        if taken_in and (answered or gateway in self._programmed):
            self._programmed[gateway] = generation
        if gateway not in self._programmed and not (taken_in and not addresses):
            return _false(condition, "Pending", _waiting(accounts, taken_in=taken_in))
        if not addresses:
            return _false(condition, "AddressNotAssigned", "the Service has no address yet")
        return {**condition, "observedGeneration": self._programmed[gateway]}


def _false(condition: Json, reason: str, message: str) -> Json:
    return {**condition, "status": "False", "reason": reason, "message": message}


def _waiting(accounts: Sequence[Account], *, taken_in: bool) -> str:
    if taken_in:
        return "no Envoy is ready behind the Service yet"
    return "waits for its Envoys to take in the configuration" if accounts else "no Envoy is connected yet"


def _listener(listener: Json, gateway: Json | None) -> Json:
    """Return a listener of which nothing is wrong as programmed as its Gateway is."""
    if gateway is None or gateway["status"] == "True":
        return listener
    conditions = [
        _false(each, gateway["reason"], gateway["message"])
        if each["type"] == "Programmed" and each["status"] == "True"
        else each
        for each in listener["conditions"]
    ]
    return {**listener, "conditions": conditions}
