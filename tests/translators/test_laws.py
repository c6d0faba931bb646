"""What holds for every World that decodes, the broken ones included."""

import random
from collections.abc import Iterable, Iterator

import pytest
from envoy_check import Batch
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from lively_worlds import CONTROLLER
from lively_worlds import histories as lively_histories
from odd_worlds import Change, changes, histories, pod_changes, worlds, worlds_of_filters

from resources import Delete, Secret, Upsert, World
from translators import Memo, ModelFinder, Resource, Settings, Translation, secrets_wanted, translate

FINDERS: list[ModelFinder] = ["lua", "ai_protocol_manager"]
OURS = Settings()
# Worlds are large: to make one small takes longer than to read it.
SLOW = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def everything(translation: Translation) -> object:
    """Return all that a translation says, as plain values."""
    config = {
        part: [(each.type_url, each.name, each.message, each.origin, each.pulls) for each in resources]
        for parts in (translation.gateways, translation.pickers)
        for part, resources in parts.items()
    }
    statuses = [(str(each.key), each.key.group, each.body) for each in translation.statuses]
    said = translation.problems, translation.notices, translation.summary
    return config, statuses, said, translation.needs


def by_name(translation: Translation) -> dict[tuple[str, str, str], Resource]:
    return {
        (gateway, each.type_url, each.name): each
        for gateway, resources in translation.gateways.items()
        for each in resources
    }


def history(batches: list[list[Change]]) -> Iterator[World]:
    world = World()
    for batch in batches:
        world = world.apply(batch)
        yield world


@settings(SLOW, max_examples=25)
@given(histories, st.sampled_from(FINDERS))
def test_a_warm_memory_changes_nothing(batches: list[list[Change]], finder: ModelFinder) -> None:
    memo = Memo()
    given_settings = Settings(model_finder=finder)
    for world in history(batches):
        warm = translate(world, given_settings, memo)
        assert everything(warm) == everything(translate(world, given_settings, Memo()))


@settings(SLOW, max_examples=12)
@given(lively_histories, st.booleans())
def test_whatever_changes_changes_what_is_remembered_of_it(batches: list[list[Change]], in_cluster: bool) -> None:  # noqa: FBT001 - drawn
    memo = Memo()
    given_settings = Settings(picker_services=True, controllers=frozenset({CONTROLLER})) if in_cluster else OURS
    for world in history(batches):
        warm, cold = translate(world, given_settings, memo), translate(world, given_settings, Memo())
        assert warm.meaning == cold.meaning
        assert everything(warm) == everything(cold)


def only_what_is_wanted(world: World, controllers: frozenset[str]) -> World:
    unwanted = world.all(Secret).keys() - secrets_wanted(world, controllers)
    return world.apply(Delete(world.all(Secret)[name].key) for name in unwanted)


@settings(SLOW, max_examples=12)
@given(lively_histories)
def test_no_secrets_are_needed_but_those_that_are_wanted(batches: list[list[Change]]) -> None:
    controllers = frozenset({CONTROLLER})
    given_settings = Settings(controllers=controllers, picker_services=True)
    memo = Memo()
    for world in history(batches):
        few = translate(only_what_is_wanted(world, controllers), given_settings, memo)
        assert everything(few) == everything(translate(world, given_settings, Memo()))


@settings(SLOW, max_examples=30)
@given(worlds)
def test_odd_ones_are_no_more_needed(world: World) -> None:
    controllers = frozenset({"example.com/gateway"})
    given_settings = Settings(controllers=controllers, picker_services=True)
    few = translate(only_what_is_wanted(world, controllers), given_settings, Memo())
    assert everything(few) == everything(translate(world, given_settings, Memo()))


@settings(SLOW, max_examples=30)
@given(changes, pod_changes)
def test_what_has_not_changed_is_the_same_object(batch: list[Change], pods: list[Change]) -> None:
    memo, world = Memo(), World().apply(batch)
    before = by_name(translate(world, OURS, memo))
    again = by_name(translate(World().apply(last_of_each(batch)), OURS, memo))
    assert before.keys() == again.keys()
    assert all(again[key] is before[key] for key in before)
    # Endpoints take the short road: nothing else is made again.
    after = by_name(translate(world.apply(pods), OURS, memo))
    assert before.keys() == after.keys()
    for key, old in before.items():
        same = old.message == after[key].message
        assert (after[key] is old) == same
        assert same or isinstance(old.message, ClusterLoadAssignment)


@settings(SLOW, max_examples=30)
@given(changes, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(batch: list[Change], dice: random.Random) -> None:
    world = World().apply(batch)
    present = last_of_each(batch)
    dice.shuffle(present)
    other = World()
    for change in present:
        other = other.apply([change])
    assert everything(translate(world, OURS, Memo())) == everything(translate(other, OURS, Memo()))


def last_of_each(batch: list[Change]) -> list[Change]:
    """Return the changes that no later one of the same object undoes."""
    return list({each.object.key if isinstance(each, Upsert) else each.key: each for each in batch}.values())


@settings(SLOW, max_examples=30)
@given(worlds, st.sampled_from([None, "example.com/gateway", "example.com/other"]))
def test_every_object_of_ours_has_a_status_and_every_name_is_used_once(world: World, controller: str | None) -> None:
    translation = translate(
        world, Settings(controllers=None if controller is None else frozenset({controller})), Memo()
    )
    keys = [each.key for each in translation.statuses]
    assert len(keys) == len(set(keys))
    assert {f"Gateway {name}" for name in translation.gateways} <= set(map(str, keys))
    for resources in translation.gateways.values():
        assert len({(each.type_url, each.name) for each in resources}) == len(resources)
        names = {(each.type_url, each.name) for each in resources}
        assert all(each.pulls in names for each in resources if each.pulls)


def test_envoy_accepts_what_filters_mean(tmp_path_factory: pytest.TempPathFactory) -> None:
    translations: list[tuple[str, tuple[Resource, ...]]] = []

    @settings(SLOW, max_examples=100, database=None)
    @seed(1)
    @given(worlds_of_filters)
    def collect(world: World) -> None:
        translation = translate(world, OURS, Memo())
        translations.extend((f"{len(translations)}:{name}", each) for name, each in translation.gateways.items())

    collect()
    assert kinds_of_routes(translations) == {"rewritten", "redirect", "headers", "share's headers", "cors", "refused"}
    assert Batch(tuple(translations)).complaints(tmp_path_factory.mktemp("envoy")) == {}


def kinds_of_routes(translations: Iterable[tuple[str, tuple[Resource, ...]]]) -> set[str]:
    """Return what there is among the routes, since a property of none holds always."""
    tables = (each.message for _, resources in translations for each in resources)
    hosts = (host for table in tables if isinstance(table, RouteConfiguration) for host in table.virtual_hosts)
    found = set()
    for each in (route for host in hosts for route in host.routes):
        action = each.route
        shares = action.weighted_clusters.clusters if action and action.weighted_clusters else ()
        signs = {
            "rewritten": action and (action.prefix_rewrite or action.regex_rewrite or action.path_rewrite),
            "redirect": each.redirect,
            "headers": each.request_headers_to_add,
            "share's headers": any(share.request_headers_to_add for share in shares),
            "cors": "envoy.filters.http.cors" in each.typed_per_filter_config,
            "refused": each.direct_response,
        }
        found |= {name for name, sign in signs.items() if sign}
    return found


@pytest.mark.parametrize("finder", FINDERS)
def test_envoy_accepts_what_odd_worlds_mean(finder: ModelFinder, tmp_path_factory: pytest.TempPathFactory) -> None:
    translations: list[tuple[str, tuple[Resource, ...]]] = []

    @settings(SLOW, max_examples=40, database=None)
    @seed(len(finder))
    @given(worlds)
    def collect(world: World) -> None:
        translation = translate(world, Settings(model_finder=finder), Memo())
        translations.extend((f"{len(translations)}:{name}", each) for name, each in translation.gateways.items())

    collect()
    assert translations
    assert Batch(tuple(translations)).complaints(tmp_path_factory.mktemp("envoy")) == {}
