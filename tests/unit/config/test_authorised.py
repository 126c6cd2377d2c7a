"""The file of authorised keys: taken whole or not at all, and edited without touching anything else."""

from __future__ import annotations

import datetime
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from taskmaster.bus.errors import ConfigError
from taskmaster.bus.keys import public_text
from taskmaster.config.authorised import Grant, as_toml, edit, read_authorised, read_grants, require_trusted

KEY, OTHER, THIRD = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
ANNA = f'[anna]\nkey = "{public_text(KEY)}"\nrole = "learner"\n'


def test_a_file_is_read_as_it_says() -> None:
    text = f"""\
{ANNA}masters = ["stm", "svm"]
code = ["svm"]
expires = 2027-01-31

["bob@lab"]
key = "{public_text(OTHER)}"
role = "admin"
expires = 2027-01-31T18:00:00Z
revoked = true
"""
    anna, bob = read_authorised(text, "keys.toml")
    midnight = datetime.datetime(2027, 1, 31).timestamp()
    assert anna == Grant("anna", KEY, "learner", frozenset(["stm", "svm"]), frozenset(["svm"]), midnight)
    evening = datetime.datetime(2027, 1, 31, 18, tzinfo=datetime.UTC).timestamp()
    assert bob == Grant("bob@lab", OTHER, "admin", None, frozenset(), evening, revoked=True)
    assert (anna.holds(midnight - 1), anna.holds(midnight), bob.holds(0.0)) == (True, False, False)
    assert read_authorised("", "keys.toml") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("anna = 3", "keys.toml:1: anna: expected a table, [NAME], with the keys key and role"),
        ("[anna]\nrole = 'learner'", "keys.toml:1: anna.key: is missing; for example key = 'tm-public-…'"),
        (
            ANNA.replace("learner", "boss"),
            "keys.toml:3: anna.role: expected 'observer', 'learner', 'operator', 'worker'",
        ),
        (ANNA + "mastres = []", "keys.toml:4: anna.mastres: unknown key; did you mean 'masters'?"),
        (ANNA + "masters = 'stm'", "keys.toml:4: anna.masters: expected a list, got 'stm'; write ['stm']"),
        (ANNA + "masters = ['a b']", "keys.toml:4: anna.masters[0]: 'a b' cannot be the name of a Master"),
        (ANNA + "expires = 'soon'", "keys.toml:4: anna.expires: expected a date such as 2027-01-31, without quotes"),
        (ANNA + "masters = ['a']\ncode = ['b']", "keys.toml:5: anna.code: 'b' is not among its masters"),
        (ANNA.replace("anna", "local"), "keys.toml:1: local: a key's name is a letter"),
        (ANNA.replace("anna", '"3"'), "keys.toml:1: 3: a key's name is a letter, then letters"),
        (ANNA.replace("tm-public-", "tm-secret-"), "keys.toml:2: anna.key: this is a secret key"),
        (ANNA + ANNA.replace("anna", "eve"), "keys.toml:5: eve.key: is that of 'anna', too; each has one of its own"),
        ("[anna", "keys.toml: not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_nothing_is_taken(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as told:
        read_authorised(f"{text}\n", "keys.toml")
    assert str(told.value).startswith(complaint)
    assert "tm-secret" not in str(told.value)


def test_a_file_that_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; `taskmaster keys allow` makes it"):
        read_grants(tmp_path / "keys.toml")
    (tmp_path / "keys.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        read_grants(tmp_path / "keys.toml")


def test_an_edit_changes_one_key_and_leaves_the_rest_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    written = f'# the group\n\n{ANNA}\n# our instrument maker\n[bob]\nkey = "{public_text(OTHER)}"\nrole = "admin"\n'
    path.write_text(written)
    edit(path, {"anna": Grant("anna", KEY, "operator", frozenset(["stm"]))})
    assert path.read_text() == written.replace('"learner"\n', '"operator"\nmasters = ["stm"]\n')
    new = Grant("carol.x", THIRD, "worker", None, frozenset(), 1.8e9)
    edit(path, {"carol.x": new})
    assert path.read_text().startswith("# the group\n")
    assert read_grants(path)[-1] == new
    assert read_authorised(as_toml(new), "x") == (new,)
    before = path.read_text()
    with pytest.raises(ConfigError, match="is that of 'anna', too"):
        edit(path, {"dave": Grant("dave", KEY, "worker")})
    assert path.read_text() == before
    assert [other.name for other in tmp_path.iterdir()] == ["keys.toml"], "nothing is left behind"


def test_a_file_is_made_by_the_first_edit(tmp_path: Path) -> None:
    edit(tmp_path / "keys.toml", {"anna": Grant("anna", KEY, "learner")})
    assert read_grants(tmp_path / "keys.toml") == (Grant("anna", KEY, "learner"),)


INLINE = f"""\
anna = {{key = "{public_text(KEY)}", role = "learner"}}
bob = {{key = "{public_text(OTHER)}", role = "admin"}}
"""
DOTTED = f"""\
anna.key = "{public_text(KEY)}"
anna.role = "learner"
bob.key = "{public_text(OTHER)}"
bob.role = "admin"
"""


@pytest.mark.parametrize("text", [INLINE, DOTTED], ids=["tables in a line", "dotted keys"])
def test_no_edit_takes_another_key_along(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    anna, _ = read_grants(path)
    with pytest.raises(ConfigError, match=r"this would change .*'bob'.*: give each key a table of its own"):
        edit(path, {"anna": replace(anna, revoked=True)})
    assert path.read_text() == text
    edit(path, {"carl": Grant("carl", THIRD, "worker")})
    assert [grant.name for grant in read_grants(path)] == ["anna", "bob", "carl"]


def test_edits_at_the_same_time_are_all_there(tmp_path: Path) -> None:
    """Each reads what the one before has written."""
    path, names = tmp_path / "keys.toml", [f"k{k}" for k in range(8)]
    edit(path, {name: Grant(name, bytes([k] * 32), "learner") for k, name in enumerate(names)})
    together = threading.Barrier(len(names))

    def revoke(name: str) -> None:
        together.wait()
        edit(path, lambda known: {name: replace(known[name], revoked=True)})

    with ThreadPoolExecutor(len(names)) as operators:
        list(operators.map(revoke, names))
    assert [grant.name for grant in read_grants(path) if grant.revoked] == names
    assert [other.name for other in tmp_path.iterdir()] == ["keys.toml"], "nothing is left behind"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_neither_trusted_nor_edited(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.toml"
    edit(path, {"anna": Grant("anna", KEY, "learner")})
    require_trusted(path, {os.geteuid()})
    path.chmod(mode)
    remedy = f"others than its owner may write it .mode {mode:o}.*chmod go-w {path}"
    with pytest.raises(ConfigError, match=remedy):
        require_trusted(path)
    with pytest.raises(ConfigError, match=remedy):
        edit(path, {"bob": Grant("bob", OTHER, "admin")})
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=rf"is of uid {os.geteuid()}, who could let in .*: chown"):
        require_trusted(path, {os.geteuid() + 1})


def test_a_new_file_is_one_that_its_owner_alone_can_write(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        edit(tmp_path / "keys.toml", {"anna": Grant("anna", KEY, "learner")})
    finally:
        os.umask(before)
    require_trusted(tmp_path / "keys.toml", {os.geteuid()})


def test_a_file_stays_whose_it_is(tmp_path: Path) -> None:
    """The daemon, which has to read it, may be another user than whoever edits it."""
    path = tmp_path / "keys.toml"
    edit(path, {"anna": Grant("anna", bytes(32), "learner")})
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    edit(path, {"otto": Grant("otto", bytes([1] * 32), "operator")})
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino, "a daemon sees it before or after"
