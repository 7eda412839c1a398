import pytest
import torch

from unspool.training import AtomicCheckpointIO
from unspool.training.checkpoint_io import write_text


def test_a_write_that_fails_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    def fill_the_disk(checkpoint, file):
        file.write(b"half")
        raise OSError("no space left")

    path = tmp_path / "folder" / "x.ckpt"
    plugin = AtomicCheckpointIO()
    plugin.save_checkpoint({"step": 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fill_the_disk)
        with pytest.raises(OSError, match="no space left"):
            plugin.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    plugin.save_checkpoint({"step": 3}, str(path))
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert [file.name for file in path.parent.iterdir()] == ["x.ckpt"]


def test_storage_options_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"received storage_options={}; expected None"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "x.ckpt", storage_options={})


def test_text_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "x.csv"
    write_text(path, "a\n")
    write_text(path, "b\n")
    assert path.read_bytes() == b"b\n"
    assert list(tmp_path.iterdir()) == [path]
