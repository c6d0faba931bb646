"""World: order does not matter, what is unchanged stays the same object."""

from hypothesis import given
from hypothesis import strategies as st

from resources import Delete, Gateway, HTTPRoute, Namespace, Object, ObjectMeta, Service, ServiceSpec, Upsert, World

_names = st.sampled_from(["a", "b", "c", "d"])


def service(name: str, namespace: str = "default", kind: str = "ClusterIP") -> Service:
    spec = ServiceSpec(type="ExternalName") if kind == "ExternalName" else ServiceSpec()
    return Service(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec)


def space(name: str, **labels: str) -> Namespace:
    return Namespace(metadata=ObjectMeta(name=name, labels=labels))


_services = st.builds(service, _names, _names, st.sampled_from(["ClusterIP", "ExternalName"]))
_spaces = st.builds(lambda name, label: space(name, label=label), _names, _names)
_objects: st.SearchStrategy[Object] = st.one_of(_services, _spaces)
_changes: st.SearchStrategy[Upsert | Delete] = st.one_of(
    st.builds(Upsert, _objects), st.builds(lambda each: Delete(each.key), _objects)
)
_distinct = st.lists(
    _changes, unique_by=lambda change: change.object.key if isinstance(change, Upsert) else change.key, max_size=12
)
_worlds = st.lists(_changes, max_size=12).map(lambda changes: World().apply(changes))


@given(_worlds, _distinct.flatmap(lambda changes: st.tuples(st.just(changes), st.permutations(changes))))
def test_the_order_of_changes_to_different_keys_does_not_matter(
    world: World, orders: tuple[list[Upsert | Delete], list[Upsert | Delete]]
) -> None:
    one, two = (world.apply(changes) for changes in orders)
    assert one == two
    for kind in (Service, Namespace):
        assert list(one.all(kind)) == list(two.all(kind)) == sorted(one.all(kind))


@given(_worlds, st.lists(_changes, max_size=12))
def test_all_at_once_is_one_by_one(world: World, changes: list[Upsert | Delete]) -> None:
    step = world
    for change in changes:
        step = step.apply([change])
    assert world.apply(changes) == step


@given(_worlds, _spaces)
def test_untouched_tables_keep_their_identity(world: World, other: Namespace) -> None:
    assert world.apply([Upsert(other)]).all(Service) is world.all(Service)


@given(_worlds)
def test_equal_objects_change_nothing(world: World) -> None:
    copies = [Upsert(service(name, space, each.spec.type)) for (space, name), each in world.all(Service).items()]
    assert world.apply(copies) is world


@given(_worlds, _distinct)
def test_a_world_is_never_changed(world: World, changes: list[Upsert | Delete]) -> None:
    before = (dict(world.all(Service)), dict(world.all(Namespace)))
    world.apply(changes)
    assert (world.all(Service), world.all(Namespace)) == before


def test_an_equal_object_beside_a_new_one_stays_the_old_one() -> None:
    world = World().apply([Upsert(service("a"))])
    after = world.apply([Upsert(service("a")), Upsert(service("b"))])
    assert after.get(Service, "default", "a") is world.get(Service, "default", "a")


def test_deleting_what_is_not_there_changes_nothing() -> None:
    world = World().apply([Upsert(service("a"))])
    assert world.apply([Delete(service("b").key), Delete(space("b").key)]) is world


def test_the_later_of_two_changes_to_a_key_counts() -> None:
    world = World().apply([Upsert(service("a")), Delete(service("a").key)])
    assert world == World()
    assert world.get(Service, "default", "a") is None


def test_kinds_do_not_meet() -> None:
    world = World().apply([Upsert(space("a")), Upsert(service("a"))])
    assert dict(world.all(Namespace)) == {("", "a"): space("a")}
    assert not world.all(HTTPRoute)
    assert world.get(Gateway, "default", "a") is None
