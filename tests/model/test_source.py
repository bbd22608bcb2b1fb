"""Folders, the hub's cache and the hub, which a folder plays here."""

import os
import subprocess
import sys
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors

from bertjax.config import InputError
from bertjax.model import source
from bertjax.model.hf import from_pretrained, load_config
from bertjax.params import paths


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one model, `google/bert`: a folder of files for each revision, and its list of pull requests."""
    state = SimpleNamespace(root=tmp_path / "hub", requests=[], cached=set(), asked=[])
    state.folder = lambda revision=None: state.root / (revision or "main").replace("/", "-")

    def list_repo_files(self, repo, revision=None):
        state.asked.append((repo, revision))
        if repo != "google/bert":
            raise errors.RepositoryNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        return [path.name for path in state.folder(revision).iterdir()]

    def from_cache(repo, filename, revision=None):
        path = state.folder(revision) / filename
        return str(path) if (filename, revision) in state.cached and path.exists() else None

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_repo_files)
    monkeypatch.setattr(huggingface_hub.HfApi, "get_repo_discussions", lambda self, repo, **kwargs: state.requests)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download",
                        lambda repo, filename, revision=None: str(state.folder(revision) / filename))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", from_cache)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    source._hub_files.cache_clear()
    yield state
    source._hub_files.cache_clear()


def assert_loads(bert, notes):
    loaded = from_pretrained("google/bert", num_labels=2)
    assert all(np.array_equal(leaf, bert.leaves[path]) for path, leaf in paths(loaded.params).items())
    assert loaded.notes == notes


@pytest.mark.parametrize("layout", ["write_torch", "write_flax", "write_shards"])
def test_the_hub_gives_every_layout_and_is_asked_once(bert, hub, layout):
    getattr(bert, layout)(hub.folder())
    assert_loads(bert, [])
    assert hub.asked == [("google/bert", None)]


def request(number, author):
    return SimpleNamespace(author=author, num=number, git_reference=f"refs/pr/{number}")


def test_a_pull_request_is_the_last_resort_and_said(bert, hub):
    bert.write_config(hub.folder())
    (hub.folder() / "pytorch_model.bin").write_bytes(b"pickle")
    bert.write_config(hub.folder("refs/pr/1"))
    bert.write_torch(hub.folder("refs/pr/2"), {"wrong": np.zeros(1)})
    bert.write_torch(hub.folder("refs/pr/7"))
    hub.requests = [request(1, "someone"), request(2, "someone"), request(7, "SFconvertbot")]
    assert_loads(bert, ["weights of google/bert are those of its pull request refs/pr/7 by SFconvertbot"])
    bert.write_flax(hub.folder())
    source._hub_files.cache_clear()
    assert_loads(bert, [])


def test_what_was_downloaded_is_used_without_the_hub(bert, hub):
    bert.write_flax(hub.folder())
    hub.cached = {("config.json", None), ("flax_model.msgpack", None)}
    assert_loads(bert, [])
    assert hub.asked == []


def test_a_lone_pickle_on_the_hub_is_refused(bert, hub):
    bert.write_config(hub.folder())
    (hub.folder() / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="bertjax convert google/bert FOLDER"):
        from_pretrained("google/bert", num_labels=2)


def test_an_unknown_model_is_named(hub):
    with pytest.raises(InputError, match="google/bort: there is no such folder, and the hub has no such model"):
        load_config("google/bort")


def test_an_unreachable_hub_is_one_line(monkeypatch):
    def fail(self, repo, revision=None):
        raise ConnectionError("[Errno -2] Name or service not known\nRetrying")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", fail)
    with pytest.raises(InputError, match="google/bert2: .* the hub cannot be reached .*Name or service") as caught:
        load_config("google/bert2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/model", "~/nowhere", "a/b/c"])
def test_a_path_that_is_not_there_never_asks_the_hub(hub, name):
    with pytest.raises(InputError, match="there is no such folder"):
        load_config(name)
    assert hub.asked == []


def test_names_that_cannot_be_are_refused(tmp_path, hub):
    with pytest.raises(InputError, match="neither a folder nor a hub name"):
        load_config("no spaces allowed")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder or a hub name, and this is a file"):
        load_config(tmp_path / "file")
    assert hub.asked == []


def test_a_name_that_no_one_knows_is_one_line_from_a_fresh_process():
    program = ("from bertjax.config import InputError\nfrom bertjax.model.source import find_file\n"
               "try:\n    find_file('no/such', 'config.json')\nexcept InputError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.stdout.startswith("no/such: there is no such folder, and the hub cannot be reached"), done.stderr
