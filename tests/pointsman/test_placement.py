from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pointsman.placement import Clash, Host, Placement, Wanted, place

EARLY = datetime(2025, 1, 1, tzinfo=UTC)
LATE = datetime(2025, 6, 1, tzinfo=UTC)
HOST = Host(bind="127.0.0.1", first_port=1024, many_loopbacks=True)


def gateway(name: str, *ports: int, created: datetime | None = None) -> Wanted:
    return Wanted(gateway=f"default/{name}", created=created, ports=frozenset(ports))


def test_a_gateway_gets_the_ports_that_it_asks_for() -> None:
    places = place([gateway("a", 8080, 9090)], HOST, {})
    assert places.placements == {
        ("default/a", 8080): Placement("127.0.0.1", 8080),
        ("default/a", 9090): Placement("127.0.0.1", 9090),
    }


def test_a_privileged_port_moves_up() -> None:
    places = place([gateway("a", 80)], HOST, {})
    assert places.placements == {("default/a", 80): Placement("127.0.0.1", 10080, moved_from=80)}


def test_a_privileged_port_stays_for_the_privileged() -> None:
    places = place([gateway("a", 80)], Host(first_port=1), {})
    assert places.placements == {("default/a", 80): Placement("127.0.0.1", 80)}


def test_gateways_that_want_one_port_get_addresses_of_their_own_by_age_then_name() -> None:
    wanted = [
        gateway("z", 8080, created=EARLY),
        gateway("a", 8080, created=LATE),
        gateway("c", 8080),
        gateway("b", 8080),
    ]
    places = place(wanted, HOST, {}).placements
    assert {name: place.address for (name, _), place in places.items()} == {
        "default/z": "127.0.0.1",
        "default/a": "127.0.0.2",
        "default/b": "127.0.0.3",
        "default/c": "127.0.0.4",
    }


def test_all_ports_of_a_gateway_share_its_address() -> None:
    places = place([gateway("a", 8080), gateway("b", 8080, 9090)], HOST, {}).placements
    assert {place.address for (name, _), place in places.items() if name == "default/b"} == {"127.0.0.2"}


def test_who_has_a_place_keeps_it_when_an_older_gateway_comes() -> None:
    first = place([gateway("b", 8080)], HOST, {}).placements
    second = place([gateway("a", 8080, created=EARLY), gateway("b", 8080)], HOST, first).placements
    assert second["default/b", 8080] == Placement("127.0.0.1", 8080)
    assert second["default/a", 8080] == Placement("127.0.0.2", 8080)


def test_a_place_that_is_given_up_is_free_again() -> None:
    first = place([gateway("a", 8080), gateway("b", 8080)], HOST, {}).placements
    second = place([gateway("b", 8080), gateway("c", 8080)], HOST, first).placements
    assert second["default/b", 8080].address == "127.0.0.2"
    assert second["default/c", 8080].address == "127.0.0.1"


def test_a_new_port_of_a_gateway_goes_where_its_others_are() -> None:
    first = place([gateway("a", 8080), gateway("b", 8080)], HOST, {}).placements
    second = place([gateway("a", 8080), gateway("b", 8080, 9090)], HOST, first).placements
    assert second["default/b", 9090] == Placement("127.0.0.2", 9090)


def test_a_moved_port_meets_one_that_was_asked_for() -> None:
    places = place([gateway("a", 80, 10080)], HOST, {}).placements
    assert places["default/a", 80] == Placement("127.0.0.1", 10080, moved_from=80)
    assert places["default/a", 10080] == Placement("127.0.0.2", 10080)


def test_with_one_loopback_address_the_next_free_port_is_taken() -> None:
    host = Host(many_loopbacks=False)
    places = place([gateway("a", 8080), gateway("b", 8080), gateway("c", 8081)], host, {}).placements
    assert places["default/a", 8080] == Placement("127.0.0.1", 8080)
    assert places["default/b", 8080] == Placement("127.0.0.1", 8081, moved_from=8080)
    assert places["default/c", 8081] == Placement("127.0.0.1", 8082, moved_from=8081)


def test_on_an_address_that_others_use_the_later_gateway_has_a_problem() -> None:
    host = Host(bind="0.0.0.0", many_loopbacks=True)  # noqa: S104 - compared, not bound
    places = place([gateway("a", 8080), gateway("b", 8080, 9090)], host, {})
    assert places.clashes == (Clash("default/b", 8080, "default/a"),)
    assert set(places.placements) == {("default/a", 8080), ("default/b", 9090)}


gateways = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(
        st.frozensets(st.sampled_from([80, 443, 8080, 8081, 10080, 65535]), max_size=4),
        st.none() | st.sampled_from([EARLY, LATE]),
    ),
).map(lambda found: [gateway(name, *ports, created=created) for name, (ports, created) in found.items()])
hosts = st.builds(Host, first_port=st.sampled_from([1, 1024]), many_loopbacks=st.booleans())


@given(gateways, gateways, hosts)
def test_places_are_complete_distinct_and_kept(before: list[Wanted], after: list[Wanted], host: Host) -> None:
    first = place(before, host, {})
    second = place(after, host, first.placements)
    asked = {(each.gateway, port) for each in after for port in each.ports}
    placed = [(place.address, place.port) for place in second.placements.values()]
    assert len(set(placed)) == len(placed)
    assert set(second.placements) | {(clash.gateway, clash.port) for clash in second.clashes} == asked
    assert all(second.placements[key] == first.placements[key] for key in asked & set(first.placements))
    if host.many_loopbacks:
        assert not second.clashes


@given(gateways, hosts, st.randoms())
def test_order_of_arrival_does_not_matter(wanted: list[Wanted], host: Host, random: object) -> None:
    shuffled = list(wanted)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert place(shuffled, host, {}) == place(wanted, host, {})
