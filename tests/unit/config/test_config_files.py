"""Files that cannot be read, and how mistakes name theirs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from taskmaster.bus.errors import ConfigError
from taskmaster.config.load import load

MASTER = """
[masters.svm]
driver = "process"
function = "digits:accuracy"
"""


def unreadable(write: Callable[[Path], object], folder: Path) -> str:
    path = folder / "lab.toml"
    write(path)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value).replace(str(path), "lab.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    missing, directory, latin, loop = folders
    assert (
        unreadable(lambda path: None, missing)
        == "lab.toml: there is no such file; `taskmaster init` writes one to start from"
    )
    assert unreadable(Path.mkdir, directory) == "lab.toml: is a folder; name the TOML file in it"
    assert (
        unreadable(lambda path: path.write_bytes(b"a = 1\nb = 'K\xe4lte'\n"), latin)
        == "lab.toml:2: not UTF-8 text; save the file in that encoding"
    )
    assert (
        unreadable(lambda path: path.symlink_to(path), loop)
        == "lab.toml: cannot be read: Too many levels of symbolic links"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        path.write_text(MASTER)
        path.chmod(0)

    assert unreadable(write, tmp_path) == "lab.toml: cannot be read: Permission denied"


def test_mistakes_in_a_file_name_it_as_the_user_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab.toml").write_text(f"{MASTER}path = ['lib']\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load("lab.toml")
    assert str(caught.value) == f"lab.toml:5: masters.svm.path[0]: folder '{tmp_path}/lib' does not exist"
