"""The folder source on real files with the real watcher."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from resources import Object, Service, Upsert, World
from sources import FolderSource, Reading
from sources.listing import list_files


def service(name: str, port: object = 80) -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n"


def age(path: Path) -> None:
    """Make a file look as if it had been left alone for a while."""
    then = time.time() - 60
    os.utime(path, (then, then))


def names(world: World) -> dict[str, int]:
    return {name: each.spec.ports[0].port for (_, name), each in world.all(Service).items()}


# Longer than any pause that a busy machine puts between two steps of a test.
PATIENT = 5.0


class Follower:
    """Collects what a source delivers, and waits for what a test expects."""

    def __init__(self, source: FolderSource) -> None:
        self.readings = [source.read()]
        self.world = World().apply(self.readings[0].changes)
        self._source = source
        self._news = asyncio.Event()

    async def follow(self, stop: asyncio.Event) -> None:
        async for reading in self._source.watch(stop):
            self.readings.append(reading)
            self.world = self.world.apply(reading.changes)
            self._news.set()

    @property
    def problems(self) -> list[str]:
        return [str(problem) for problem in self.readings[-1].problems]

    async def until(self, condition: Callable[[], bool], seconds: float = 1.0) -> None:
        """An edit takes effect within a second."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def silence(self, seconds: float) -> None:
        """Nothing is delivered for a while."""
        self._news.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
            pytest.fail(f"unexpected: {self.readings[-1]}")


@asynccontextmanager
async def following(*folders: Path, settle: float = 0.2) -> AsyncIterator[Follower]:
    follower = Follower(FolderSource(folders, settle))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follower.follow(stop))
        try:
            yield follower
        finally:
            stop.set()


class TestReading:
    def test_everything_below_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "a.yaml").write_text(service("a") + "---\n" + service("b"))
        (tmp_path / "deep" / "c.yml").write_text(service("c"))
        (tmp_path / "deep" / "er" / "d.json").write_text(
            '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "d"}}'
        )
        for hidden in (".h.yaml", "h.yaml~", "#h.yaml#", ".h.yaml.swp", "h.txt", "h.yaml.bak"):
            (tmp_path / hidden).write_text("[ broken")
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "h.yaml").write_text(service("hidden"))
        reading = FolderSource([tmp_path]).read()
        found = [each.object.key.name for each in reading.changes if isinstance(each, Upsert)]
        assert sorted(found) == ["a", "b", "c", "d"]
        assert not reading.problems

    def test_a_second_reading_has_no_changes(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        (tmp_path / "b.yaml").write_text("[")
        source = FolderSource([tmp_path])
        first = source.read()
        again = source.read()
        assert not again.changes
        assert again.problems == first.problems != ()

    def test_a_missing_folder_is_a_problem(self, tmp_path: Path) -> None:
        reading = FolderSource([tmp_path / "nowhere"]).read()
        assert [str(each) for each in reading.problems] == [
            f"{tmp_path}/nowhere: cannot be read: no such folder; what was read from it before stays"
        ]

    def test_the_order_of_folders_decides(self, tmp_path: Path) -> None:
        for folder, port in (("z", 1), ("a", 2)):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "s.yaml").write_text(service("s", port))
        reading = FolderSource([tmp_path / "z", tmp_path / "a"]).read()
        assert names(World().apply(reading.changes)) == {"s": 1}
        assert [problem.path for problem in reading.problems] == [tmp_path / "a" / "s.yaml"]

    def test_a_file_reached_in_two_ways_is_one_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        (tmp_path / "b.yaml").symlink_to("a.yaml")
        (tmp_path / "loop").symlink_to(tmp_path)
        reading = FolderSource([tmp_path, tmp_path]).read()
        assert len(reading.changes) == 1
        assert not reading.problems

    def test_a_file_that_cannot_be_read_is_a_problem(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        source = FolderSource([tmp_path])
        source.read()
        (tmp_path / "a.yaml").write_bytes(b"\xff")
        reading = source.read()
        assert not reading.changes
        assert len(reading.problems) == 1

    def test_files_left_alone_are_not_waited_for(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("[")
        age(tmp_path / "a.yaml")
        start = time.monotonic()
        assert FolderSource([tmp_path]).read().problems
        assert time.monotonic() - start < 0.15

    def test_only_changed_files_are_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in "ab":
            (tmp_path / f"{name}.yaml").write_text(service(name))
            age(tmp_path / f"{name}.yaml")
        source = FolderSource([tmp_path])
        source.read()
        read: list[str] = []
        original = Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or original(path))  # type: ignore[func-returns-value]
        (tmp_path / "a.yaml").write_text(service("a", 81))
        age(tmp_path / "a.yaml")
        source.read()
        assert read == ["a.yaml"]

    def test_a_folder_that_goes_away_takes_nothing_with_it(self, tmp_path: Path) -> None:
        folder = tmp_path / "f"
        folder.mkdir()
        (folder / "a.yaml").write_text(service("a"))
        source = FolderSource([folder])
        source.read()
        shutil.move(folder, tmp_path / "g")
        reading = source.read()
        assert not reading.changes
        assert len(reading.problems) == 1


class TestWatching:
    async def test_an_edit_is_delivered(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        (tmp_path / "b.yaml").write_text(service("b"))
        async with following(tmp_path) as follower:
            before: Object | None = follower.world.get(Service, "default", "b")
            (tmp_path / "a.yaml").write_text(service("a", 81))
            await follower.until(lambda: names(follower.world) == {"a": 81, "b": 80})
            assert follower.world.get(Service, "default", "b") is before
            assert len(follower.readings[-1].changes) == 1

    async def test_an_atomic_replacement_is_delivered(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        async with following(tmp_path) as follower:
            (tmp_path / ".a.tmp").write_text(service("a", 81))
            (tmp_path / ".a.tmp").rename(tmp_path / "a.yaml")
            await follower.until(lambda: names(follower.world) == {"a": 81})
            assert all(not reading.problems for reading in follower.readings)

    async def test_new_files_and_folders_are_delivered(self, tmp_path: Path) -> None:
        async with following(tmp_path) as follower:
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "a.yaml").write_text(service("a"))
            await follower.until(lambda: names(follower.world) == {"a": 80})
            (tmp_path / "new" / "b.yaml").write_text(service("b"))
            await follower.until(lambda: names(follower.world) == {"a": 80, "b": 80})

    @pytest.mark.parametrize("cut", ["apiVersion: v1\nki", "apiVersion: v1\nkind: Service\nmetadata: {", ""])
    async def test_a_half_written_file_is_not_reported(self, tmp_path: Path, cut: str) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        async with following(tmp_path, settle=PATIENT) as follower:
            (tmp_path / "a.yaml").write_text(cut)
            await follower.silence(0.12)
            (tmp_path / "a.yaml").write_text(service("a", 81))
            await follower.until(lambda: names(follower.world) == {"a": 81})
            assert all(not reading.problems for reading in follower.readings)
            assert len(follower.readings) == 2

    async def test_a_file_written_bit_by_bit_takes_nothing_away(self, tmp_path: Path) -> None:
        text = "---\n".join(service(f"s{index}") for index in range(20))
        (tmp_path / "a.yaml").write_text(text)
        async with following(tmp_path, settle=PATIENT) as follower:
            with (tmp_path / "a.yaml").open("w", encoding="utf-8") as file:
                for start in range(0, len(text), 100):
                    file.write(text[start : start + 100].replace("80", "81"))
                    file.flush()
                    await asyncio.sleep(0.005)
            await follower.until(lambda: set(names(follower.world).values()) == {81})
            assert all(isinstance(each, Upsert) for reading in follower.readings for each in reading.changes)
            assert all(not reading.problems for reading in follower.readings)

    async def test_a_broken_file_is_reported_and_mended(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        async with following(tmp_path) as follower:
            (tmp_path / "a.yaml").write_text(service("a", "x"))
            complaint = f"{tmp_path}/a.yaml:7: Service default/a: spec.ports[0].port: expected int, got str"
            await follower.until(lambda: follower.problems == [complaint])
            assert names(follower.world) == {"a": 80}
            (tmp_path / "a.yaml").write_text(service("a", 82))
            await follower.until(lambda: follower.problems == [] and names(follower.world) == {"a": 82})

    async def test_a_deleted_file_takes_its_objects_with_it(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a") + "---\n" + service("b"))
        async with following(tmp_path) as follower:
            (tmp_path / "a.yaml").write_text(service("b"))
            await follower.until(lambda: names(follower.world) == {"b": 80})
            (tmp_path / "a.yaml").unlink()
            await follower.until(lambda: names(follower.world) == {})

    async def test_a_file_that_is_deleted_and_made_again_is_an_edit(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        async with following(tmp_path, settle=PATIENT) as follower:
            (tmp_path / "a.yaml").unlink()
            await follower.silence(0.1)
            (tmp_path / "a.yaml").write_text(service("a", 81))
            await follower.until(lambda: names(follower.world) == {"a": 81})
            assert len(follower.readings) == 2

    async def test_a_renamed_file_is_no_change(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        async with following(tmp_path) as follower:
            (tmp_path / "a.yaml").rename(tmp_path / "z.yaml")
            await follower.silence(0.5)
            (tmp_path / "z.yaml").write_text(service("a", 81))
            await follower.until(lambda: names(follower.world) == {"a": 81})

    async def test_the_second_takes_over_from_the_first(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("s", 1))
        async with following(tmp_path) as follower:
            (tmp_path / "b.yaml").write_text(service("s", 2))
            await follower.until(lambda: len(follower.problems) == 1)
            assert names(follower.world) == {"s": 1}
            (tmp_path / "a.yaml").unlink()
            await follower.until(lambda: names(follower.world) == {"s": 2} and follower.problems == [])

    async def test_a_second_folder_may_appear_later(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        (one / "a.yaml").write_text(service("a"))
        async with following(one, two) as follower:
            assert len(follower.problems) == 1
            two.mkdir()
            (two / "b.yaml").write_text(service("b"))
            await follower.until(lambda: names(follower.world) == {"a": 80, "b": 80} and not follower.problems, 2.0)
            (two / "b.yaml").write_text(service("b", 81))
            await follower.until(lambda: names(follower.world) == {"a": 80, "b": 81})

    async def test_events_tell_where_to_look(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # From the first look on nobody looks at all files unasked.
        monkeypatch.setattr("sources.folder.POLL", 1000.0)
        folder = tmp_path / "folder"
        (folder / "deep").mkdir(parents=True)
        for name in ("a", "b", "deep/c"):
            (folder / f"{name}.yaml").write_text(service(name.rpartition("/")[2]))
        everywhere: list[int] = []
        original = list_files
        monkeypatch.setattr("sources.folder.list_files", lambda *given: everywhere.append(1) or original(*given))  # type: ignore[func-returns-value]
        async with following(folder, settle=0.05) as follower:
            # Until the watcher is there, no event tells of an edit: they go on until one does.
            port = 1000
            while names(follower.world)["a"] == 80:
                port += 1
                (folder / "a.yaml").write_text(service("a", port))
                with suppress(TimeoutError):
                    await follower.until(lambda: names(follower.world)["a"] != 80, 0.2)
            await follower.until(lambda: names(follower.world)["a"] == port, PATIENT)
            looks = len(everywhere)
            (folder / "b.yaml").write_text(service("b", 81))
            await follower.until(lambda: names(follower.world)["b"] == 81, PATIENT)
            (folder / "new").write_text(service("b", 82))
            (folder / "new").replace(folder / "b.yaml")
            await follower.until(lambda: names(follower.world)["b"] == 82, PATIENT)
            (folder / "b.yaml").write_text("[")
            await follower.until(lambda: len(follower.problems) == 1, PATIENT)
            (folder / "b.yaml").write_text(service("b", 83))
            await follower.until(lambda: not follower.problems and names(follower.world)["b"] == 83, PATIENT)
            assert len(everywhere) == looks
            (folder / "new.yaml").write_text(service("new"))
            await follower.until(lambda: "new" in names(follower.world), PATIENT)
            assert len(everywhere) > looks
            (folder / "deep").rename(tmp_path / "away")
            await follower.until(lambda: "c" not in names(follower.world), PATIENT)
            (tmp_path / "away").rename(folder / "back")
            await follower.until(lambda: "c" in names(follower.world), PATIENT)
            (folder / "b.yaml").unlink()
            await follower.until(lambda: "b" not in names(follower.world), PATIENT)

    async def test_a_mounted_config_map_is_followed(self, tmp_path: Path) -> None:
        def publish(version: str, port: int) -> None:
            """As the kubelet does it: a new folder, then one atomic swap of the link to it."""
            (tmp_path / version).mkdir()
            (tmp_path / version / "a.yaml").write_text(service("a", port))
            (tmp_path / "..data_tmp").symlink_to(version)
            (tmp_path / "..data_tmp").rename(tmp_path / "..data")

        publish("..2025_01", 80)
        (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
        async with following(tmp_path) as follower:
            assert names(follower.world) == {"a": 80}
            publish("..2025_02", 81)
            await follower.until(lambda: names(follower.world) == {"a": 81})

    async def test_a_link_out_of_the_folder_is_followed(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        (tmp_path / "a.yaml").write_text(service("a"))
        (folder / "a.yaml").symlink_to(tmp_path / "a.yaml")
        async with following(folder) as follower:
            (tmp_path / "a.yaml").write_text(service("a", 81))
            await follower.until(lambda: names(follower.world) == {"a": 81}, 2.0)

    async def test_without_a_first_read_the_first_reading_has_everything(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(service("a"))
        stop = asyncio.Event()
        readings: list[Reading] = []
        async for reading in FolderSource([tmp_path]).watch(stop):
            readings.append(reading)
            stop.set()
        assert names(World().apply(readings[0].changes)) == {"a": 80}
