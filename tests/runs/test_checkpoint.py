from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sempairs.errors import UserError
from sempairs.runs.checkpoint import (
    CorruptCheckpointError,
    clear_partial,
    disk_full_is_told,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

TENSORS = {
    "float": torch.linspace(-1, 1, 7).reshape(7, 1),
    "bfloat": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(3),
    "layout": torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    shared = TENSORS | {"same memory": TENSORS["float"]}
    path = save_checkpoint(tmp_path / "c", 120, shared, {"seconds": 0.1 + 0.2, "sums": {"loss": 1e-300}})
    assert path.name == "step-00000120"
    found = load_checkpoint(path)
    assert found.step == 120
    assert found.scalars == {"seconds": 0.1 + 0.2, "sums": {"loss": 1e-300}}
    assert found.tensors.keys() == shared.keys()
    for name, tensor in shared.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 20, 300, 4000):
        save_checkpoint(tmp_path, step, TENSORS, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000300", "step-00004000"]
    found = find_checkpoint(tmp_path)
    assert found.checkpoint is not None
    assert (found.checkpoint.step, found.rejected) == (4000, ())


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "absent").checkpoint is None
    (tmp_path / ".partial-1").mkdir()
    assert find_checkpoint(tmp_path).checkpoint is None
    clear_partial(tmp_path)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_flipped_or_missing_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("c")
    save_checkpoint(folder, 1, TENSORS, {"a": 1})
    newest = save_checkpoint(folder, 2, TENSORS, {"a": 2})
    file = newest / data.draw(st.sampled_from(["tensors.safetensors", "state.json"]))
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    try:
        same = json.loads(content) == json.loads(file.read_bytes())  # a changed blank changes nothing
    except ValueError:
        same = False
    file.write_bytes(content)
    if same:
        assert load_checkpoint(newest).scalars == {"a": 2}
        return
    with pytest.raises(CorruptCheckpointError):
        load_checkpoint(newest)
    found = find_checkpoint(folder)
    assert found.checkpoint is not None
    assert found.checkpoint.scalars == {"a": 1}
    assert [path for path, _ in found.rejected] == [newest]


def test_a_missing_file_and_no_sound_one(tmp_path: Path) -> None:
    for step in (1, 2):
        (save_checkpoint(tmp_path, step, TENSORS, {}) / "state.json").unlink()
    with pytest.raises(UserError, match=r"holds no sound checkpoint .*step-00000002.*step-00000001"):
        find_checkpoint(tmp_path)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    """A pickle in place of the tensors, with its checksum, is refused and not executed."""
    import hashlib
    import pickle

    from sempairs.files import stable_hash

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'executed')!r}, 'w')",))

    path = save_checkpoint(tmp_path, 1, TENSORS, {})
    payload = pickle.dumps(Trap())
    (path / "tensors.safetensors").write_bytes(payload)
    state = json.loads((path / "state.json").read_text())
    del state["state_sha256"]
    state["tensors_sha256"] = hashlib.sha256(payload).hexdigest()
    state["state_sha256"] = stable_hash(state)
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(CorruptCheckpointError, match="malformed"):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no space left on device.*--resume"), disk_full_is_told(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), disk_full_is_told(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
