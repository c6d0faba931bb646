"""What a plan holds; and that following plans reaches what is wanted, from any state."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import encode

from lora_syncer import Action, Adapter, Config, Kind, Present, plan
from simulator.adapters import Adapters
from simulator.commands import Launch, find_server

NAMES = st.sampled_from("abcdef")
SOURCES = st.sampled_from(["/1", "/2", "/3"])
adapters = st.builds(Adapter, NAMES, SOURCES)
configs = st.builds(
    Config,
    wanted=st.lists(adapters, max_size=6).map(tuple),
    unwanted=st.lists(NAMES, max_size=4, unique=True).map(tuple),
)
presents = st.builds(
    Present,
    st.dictionaries(NAMES, st.none() | SOURCES),
    st.frozensets(st.sampled_from(["m", "a"]), max_size=2),
).filter(lambda present: not present.models & present.adapters.keys())


def done(actions: tuple[Action, ...], present: Present) -> Present:
    """Do as a server does that refuses nothing."""
    loaded = dict(present.adapters)
    for action in actions:
        match action.kind:
            case Kind.LOAD:
                assert action.adapter.id not in loaded
                loaded[action.adapter.id] = action.adapter.source
            case Kind.REPLACE:
                assert action.adapter.id in loaded
                loaded[action.adapter.id] = action.adapter.source
            case Kind.UNLOAD:
                del loaded[action.adapter.id]
    return Present(loaded, present.models)


@given(configs, presents)
def test_one_pass_reaches_what_is_wanted_and_a_second_finds_nothing_to_do(config: Config, present: Present) -> None:
    planned = plan(config, present)
    after = done(planned.actions, present)
    again = plan(config, after)
    assert (again.actions, again.conflicts) == ((), planned.conflicts)
    undecided = {conflict.id for conflict in planned.conflicts}
    for adapter in config.wanted:
        if adapter.id not in undecided:
            assert after.adapters[adapter.id] in {adapter.source, None}
    assert not (set(config.unwanted) - undecided) & after.adapters.keys()


@given(configs, presents)
def test_what_is_not_named_or_contradictory_is_left_alone(config: Config, present: Present) -> None:
    planned = plan(config, present)
    after = done(planned.actions, present)
    named = {*(adapter.id for adapter in config.wanted), *config.unwanted}
    undecided = {conflict.id for conflict in planned.conflicts}
    for name in set("abcdef") - (named - undecided):
        assert (name in after.adapters) == (name in present.adapters)
        assert after.adapters.get(name) == present.adapters.get(name)


@given(configs, presents, st.data())
def test_actions_interrupted_anywhere_and_in_any_order_are_made_up_for(
    config: Config,
    present: Present,
    data: st.DataObject,
) -> None:
    first = plan(config, present).actions
    some = tuple(data.draw(st.lists(st.sampled_from(first), unique=True))) if first else ()
    between = done(some, present)
    assert done(plan(config, between).actions, between) == done(first, present)


@given(configs, st.lists(adapters, max_size=6))
def test_vllm_refuses_no_action_of_a_plan(config: Config, loaded: list[Adapter]) -> None:
    spec = find_server(Launch("c", command=("vllm", "serve", "m", "--enable-lora")))
    assert spec is not None
    server = Adapters(spec)
    for adapter in loaded:
        server.load(encode({"lora_name": adapter.id, "lora_path": adapter.source, "load_inplace": True}))

    def present() -> Present:
        return Present({module.name: module.path for module in server.modules}, frozenset({"m"}))

    wanted = done(plan(config, present()).actions, present())
    for action in plan(config, present()).actions:
        if action.kind is Kind.UNLOAD:
            server.unload(encode({"lora_name": action.adapter.id}))
        else:
            in_place = action.kind is Kind.REPLACE
            body = {"lora_name": action.adapter.id, "lora_path": action.adapter.source, "load_inplace": in_place}
            server.load(encode(body))
    assert present() == wanted
    assert plan(config, present()).actions == ()


def test_loads_stand_before_unloads() -> None:
    config = Config(wanted=(Adapter("new", "/n"), Adapter("moved", "/b")), unwanted=("old", "never"))
    present = Present({"old": "/o", "moved": "/a", "other": "/x"})
    assert plan(config, present).actions == (
        Action(Kind.LOAD, Adapter("new", "/n")),
        Action(Kind.REPLACE, Adapter("moved", "/b")),
        Action(Kind.UNLOAD, Adapter("old", "/o")),
    )


def test_conflicts_are_named_with_their_reason() -> None:
    config = Config(
        wanted=(Adapter("both", "/1"), Adapter("two", "/1"), Adapter("two", "/2"), Adapter("same", "/1")) * 2,
        unwanted=("both", "base"),
    )
    planned = plan(config, Present({}, frozenset({"base"})))
    assert planned.actions == (Action(Kind.LOAD, Adapter("same", "/1")),)
    assert {conflict.id: conflict.reason for conflict in planned.conflicts} == {
        "both": "it is in both ensureExist and ensureNotExist",
        "two": "ensureExist gives it several sources: /1, /2",
        "base": "it is the name of the server's base model",
    }
