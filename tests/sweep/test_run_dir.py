"""A run directory in an object store: its working copy, what is copied when, and what stays there alone."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from bertjax.config import InputError
from bertjax.sweep.run_dir import RemoteRunDir, RunDir

URL = "memory://bucket/run"


@pytest.fixture
def store() -> fsspec.AbstractFileSystem:
    """An empty one, in this process."""
    made = fsspec.filesystem("memory")
    made.store.clear()
    return made


def put(home: RunDir, **files: str) -> None:
    for name, text in files.items():
        path = home.local / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stored(store: fsspec.AbstractFileSystem) -> dict[str, str]:
    return {name.removeprefix("/bucket/run/"): store.cat(name).decode() for name in store.find("/bucket/run")}


def test_a_folder_is_itself(tmp_path: Path) -> None:
    home = RunDir.at(tmp_path / "run")
    assert RunDir.at(home) is home and home.local == tmp_path / "run" and str(home.root) == str(tmp_path / "run")
    put(home, trials__1__model__config_json="m")
    home.push()
    assert home.has(home.fetch(home.local / "trials" / "1" / "model") / "config.json")
    home.remove(home.local / "trials" / "1" / "model")
    assert not home.has(home.local / "trials" / "1" / "model" / "config.json")


def test_what_changes_is_copied_and_models_leave_the_disk(store: fsspec.AbstractFileSystem) -> None:
    home = RunDir.at(URL)
    assert isinstance(home, RemoteRunDir) and list(home.local.iterdir()) == [] and home.url == URL
    put(home, study_json="s", trials__1__result_json="r", trials__1__model__config_json="m",
        teachers__2__model__config_json="t", lock_json="mine")
    home.push()
    everything = {"study.json": "s", "trials/1/result.json": "r", "trials/1/model/config.json": "m",
                  "teachers/2/model/config.json": "t"}
    assert stored(store) == everything
    assert not (home.local / "trials" / "1" / "model").exists() and (home.local / "teachers" / "2" / "model").exists()
    assert home.has(home.local / "trials" / "1" / "model" / "config.json")
    store.pipe("/bucket/run/study.json", b"changed there")
    put(home, trials__1__result_json="r2")
    home.push()
    assert stored(store) == everything | {"study.json": "changed there", "trials/1/result.json": "r2"}
    (home.local / "study.json").unlink()
    home.remove(home.local / "trials" / "1" / "model")
    home.push()
    assert stored(store).keys() == {"trials/1/result.json", "teachers/2/model/config.json"}
    assert not home.has(home.local / "trials" / "1" / "model" / "config.json")


def test_another_machine_gets_all_but_models_and_those_when_asked(store: fsspec.AbstractFileSystem) -> None:
    for name in ("study.json", "trials/1/result.json", "trials/1/model/config.json", "trials/1/packed/model.bertjax",
                 "teachers/2/result.json", "teachers/2/model/config.json", "teachers/2/model/model.safetensors",
                 "checkpoints/3/program.json", "lock.json"):
        store.pipe(f"/bucket/run/{name}", name.encode())
    before = stored(store)
    home = RunDir.at(f"{URL}/")
    assert {str(path.relative_to(home.local)) for path in home.local.rglob("*") if path.is_file()} == {
        "study.json", "trials/1/result.json", "teachers/2/result.json"}
    folder = home.local / "teachers" / "2" / "model"
    assert home.has(folder / "config.json") and not (folder / "config.json").exists()
    assert home.fetch(folder) == folder
    assert (folder / "model.safetensors").read_text() == "teachers/2/model/model.safetensors"
    home.push()
    assert stored(store) == before  # nothing of what is not here was taken for deleted


def test_one_of_several_writers_has_a_part_and_takes_over_what_others_write(store: fsspec.AbstractFileSystem) -> None:
    for name in ("study.json", "results.csv", "teachers/2/result.json", "trials/1/result.json", "trials/11/a.json"):
        store.pipe(f"/bucket/run/{name}", name.encode())
    home = RunDir.at(URL, ["study.json", "teachers", "trials/1", "trials/3"])

    def here() -> set[str]:
        return {str(path.relative_to(home.local)) for path in home.local.rglob("*") if path.is_file()}

    assert here() == {"study.json", "teachers/2/result.json", "trials/1/result.json"}
    store.pipe("/bucket/run/trials/1/result.json", b"again")
    store.pipe("/bucket/run/trials/3/result.json", b"3")
    store.pipe("/bucket/run/trials/3/model/config.json", b"m")
    model = home.local / "trials" / "3" / "model"
    assert not home.has(model / "config.json")
    home.refresh([home.local / "trials" / name for name in ("1", "3")])
    assert here() == {"study.json", "teachers/2/result.json", "trials/1/result.json", "trials/3/result.json"}
    assert (home.local / "trials" / "1" / "result.json").read_text() == "again" and home.has(model / "config.json")
    before = stored(store)
    home.push()
    assert stored(store) == before  # what is not here is others'
    store.rm("/bucket/run/trials/3/model/config.json")
    home.refresh([home.local / "trials" / "3"])
    assert not home.has(model / "config.json")
    store.pipe("/bucket/run/trials/11/model/config.json", b"m")
    other = RunDir.at(URL)
    other.refresh([other.local / "trials" / "1"])
    assert other.has(other.local / "trials" / "11" / "model" / "config.json")
    store.rm("/bucket/run/trials/11/model/config.json")
    home.close()
    assert not home.local.exists() and stored(store).keys() == before.keys() - {"trials/3/model/config.json"}


def test_working_copies_of_processes_that_are_gone_leave_the_disk_and_those_of_other_machines_stay(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = RunDir.at(URL).local
    gone = ours.with_name(f"{ours.name.rpartition('-')[0]}-{2**22 + 1}")  # no process has such a number
    gone.mkdir()
    monkeypatch.setattr("bertjax.sweep.run_dir.socket.gethostname", lambda: "elsewhere")
    RunDir.at(URL).close()
    assert gone.exists()
    monkeypatch.undo()
    RunDir.at(URL)
    assert not gone.exists() and ours.exists()


def test_a_trials_result_is_copied_after_everything_else(
    store: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = RunDir.at(URL)
    put(home, trials__1__a_json="a", trials__1__result_json="r", zz_json="z")
    order: list[str] = []
    assert isinstance(home, RemoteRunDir)
    real = home.store.put
    monkeypatch.setattr(home.store, "put", lambda there, here: (order.extend(here), real(there, here)))
    home.push()
    assert order[-1] == f"{home.place}/trials/1/result.json" and len(order) == 3


@pytest.mark.parametrize(("url", "said"), [
    ("nothing://bucket/run", "the run directory nothing://bucket/run cannot be read: .*nothing"),
])
def test_a_place_that_cannot_be_read_is_one_line(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        RunDir.at(url)
    assert "\n" not in str(raised.value)
