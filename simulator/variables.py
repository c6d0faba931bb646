"""The variables of a container whose values are known: its own, and those that it takes from ConfigMaps. Pure.

A Secret's values are not known here: what needs them does without.
"""

from collections.abc import Iterator, Sequence

from resources import ConfigMap, Container, EnvVar, World


class Variables:
    """Finds values in the ConfigMaps of one namespace; `given` come before a container's own."""

    def __init__(self, world: World, namespace: str, given: Sequence[tuple[str, str]] = ()) -> None:
        self._world = world
        self._namespace = namespace
        self._given = tuple(given)

    def known(self, container: Container) -> tuple[tuple[str, str], ...]:
        """Give the variables in the order in which a later one may refer to an earlier one."""
        named = ((variable.name, self._value(variable)) for variable in container.env)
        own = ((name, value) for name, value in named if value is not None)
        return (*self._given, *self._from_maps(container), *own)

    def _from_maps(self, container: Container) -> Iterator[tuple[str, str]]:
        for source in container.env_from:
            reference = source.config_map_ref
            if reference is not None and (found := self._map(reference.name)) is not None:
                for name, value in found.data.items():
                    yield source.prefix + name, value

    def _value(self, variable: EnvVar) -> str | None:
        if variable.value_from is None:
            return variable.value
        reference = variable.value_from.config_map_key_ref
        found = self._map(reference.name) if reference is not None else None
        return None if reference is None or found is None else found.data.get(reference.key)

    def _map(self, name: str) -> ConfigMap | None:
        return self._world.get(ConfigMap, self._namespace, name)
