"""Who is let in to the control plane of a cluster, and for what."""

import asyncio
import base64
import json
from collections.abc import Mapping

from pointsman.doorkeeper import Doorkeeper
from sources.kubernetes import ApiError, UnreachableError
from translators.infrastructure import Account
from xds import Peer, Permit, Refusal

ACCOUNTS = {
    "shop/front": Account("shop", "front-ours"),
    "picker/shop/epp/9002": Account("shop", "epp", picker=True),
}
NOW = 1_000_000.0


def token(expires: float) -> str:
    """A token as an API server would issue it, for what it says of its end."""
    claims = base64.urlsafe_b64encode(json.dumps({"exp": expires}).encode()).rstrip(b"=").decode()
    return f"head.{claims}.signature"


class Stage:
    """An API server that knows some tokens, and a doorkeeper before it."""

    def __init__(self, *, accounts: Mapping[str, Account] | None = ACCOUNTS, patience: float = 60.0) -> None:
        self.tokens = {token(NOW + 3600): ("shop", "front-ours"), token(NOW + 3601): ("shop", "epp")}
        self.envoys, self.pickers = self.tokens
        self.asked = 0
        self.now = NOW
        self.trouble: Exception | None = None
        self.accounts = accounts
        self.known = asyncio.Event()
        self.doorkeeper = Doorkeeper(
            self._review, lambda: self.accounts, self.known.wait, lambda: self.now, patience=patience
        )

    async def _review(self, given: str) -> tuple[str, str] | None:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return self.tokens.get(given)

    async def admit(self, given: str) -> Permit | Refusal:
        return await self.doorkeeper.admit({"authorization": f"Bearer {given}"})

    async def status(self, given: str, group: str, role: str = "envoy") -> str:
        """What becomes of a client: "" where it is served."""
        permit = await self.admit(given)
        refusal = permit if isinstance(permit, Refusal) else permit(Peer("node", group, role, ""))
        return refusal.status if refusal is not None else ""


async def test_everybody_gets_what_is_its_own() -> None:
    stage = Stage()
    assert await stage.status(stage.envoys, "shop/front") == ""
    assert await stage.status(stage.pickers, "picker/shop/epp/9002", "picker") == ""
    denied = [
        await stage.status(stage.envoys, "shop/other"),
        await stage.status(stage.envoys, "picker/shop/epp/9002", "picker"),
        # An Envoy of a picker's part would be sent what pickers are not, and the other way round.
        await stage.status(stage.envoys, "shop/front", "picker"),
        await stage.status(stage.pickers, "picker/shop/epp/9002"),
        await stage.status(stage.pickers, "shop/front"),
    ]
    assert denied == ["PERMISSION_DENIED"] * 5
    assert stage.doorkeeper.refused == {"PERMISSION_DENIED": 5}


async def test_strangers_are_refused() -> None:
    stage = Stage()
    for metadata in ({}, {"authorization": ""}, {"authorization": stage.envoys}, {"authorization": "Basic YTpi"}):
        refusal = await stage.doorkeeper.admit(metadata)
        assert isinstance(refusal, Refusal)
        assert refusal.status == "UNAUTHENTICATED"
    # None of these was worth a question.
    assert stage.asked == 0
    assert await stage.status("unknown", "shop/front") == "UNAUTHENTICATED"


async def test_a_certificate_says_whose_it_is_whatever_the_token() -> None:
    stage = Stage()
    front, picker = "spiffe://pointsman/account/shop/front-ours", "spiffe://pointsman/account/shop/epp"

    async def status(names: tuple[str, ...], group: str, role: str = "envoy") -> str:
        permit = await stage.doorkeeper.admit({"authorization": f"Bearer {stage.envoys}"}, names)
        refusal = permit if isinstance(permit, Refusal) else permit(Peer("node", group, role, ""))
        return refusal.status if refusal is not None else ""

    assert await status((front,), "shop/front") == ""
    assert await status((picker,), "picker/shop/epp/9002", "picker") == ""
    for names, group, role in (
        ((front,), "shop/other", "envoy"),
        ((front,), "picker/shop/epp/9002", "picker"),
        ((picker,), "shop/front", "envoy"),
        ((picker,), "shop/front", "picker"),
        # Of the same name, elsewhere.
        (("spiffe://pointsman/account/other/front-ours",), "shop/front", "envoy"),
    ):
        assert await status(names, group, role) == "PERMISSION_DENIED"
    for names in (
        (),
        # What Envoys and pickers meet each other with proves no account, nor does what is of several.
        ("spiffe://pointsman/envoy/shop/front",),
        ("spiffe://pointsman/picker/shop/epp/9002",),
        ("pointsman-control-plane",),
        (front, picker),
        (front + "/more",),
        ("spiffe://pointsman/account/front-ours",),
        ("spiffe://pointsman/account//front-ours",),
        ("spiffe://elsewhere/account/shop/front-ours",),
    ):
        assert await status(names, "shop/front") == "UNAUTHENTICATED"
    # No API server was asked.
    assert stage.asked == 0


async def test_nobody_is_served_before_the_cluster_is_known() -> None:
    stage = Stage(accounts=None)
    coming = asyncio.create_task(stage.status(stage.envoys, "shop/front"))
    # Whoever is a stranger hears so at once.
    assert await stage.status("unknown", "shop/front") == "UNAUTHENTICATED"
    assert not coming.done()
    stage.accounts = ACCOUNTS
    stage.known.set()
    assert await coming == ""


async def test_nobody_waits_for_ever_for_the_cluster_to_be_known() -> None:
    stage = Stage(accounts=None, patience=0.01)
    assert await stage.status(stage.envoys, "shop/front") == "UNAVAILABLE"


async def test_a_token_is_asked_about_again_after_a_while_and_may_have_been_taken_back() -> None:
    stage = Stage()
    for _ in range(3):
        assert await stage.status(stage.envoys, "shop/front") == ""
    assert stage.asked == 1
    del stage.tokens[stage.envoys]
    stage.now += 61
    assert await stage.status(stage.envoys, "shop/front") == "UNAUTHENTICATED"


async def test_a_known_token_is_good_until_it_expires_where_the_api_server_gives_no_answer() -> None:
    stage = Stage()
    assert await stage.status(stage.envoys, "shop/front") == ""
    for trouble in (UnreachableError("away"), ApiError(500, "InternalError", "etcd is away")):
        stage.trouble = trouble
        stage.now += 100
        assert await stage.status(stage.envoys, "shop/front") == ""
        assert await stage.status(stage.pickers, "picker/shop/epp/9002", "picker") == "UNAVAILABLE"
    stage.now = NOW + 3600
    assert await stage.status(stage.envoys, "shop/front") == "UNAVAILABLE"
