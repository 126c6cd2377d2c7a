"""The house is in order: folders, packaging, links, constraints, and commands that say plainly what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.documents import ROOT, document, section
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

#: Folders at the root with Python in them that are not part of the package.
APART = {"benchmarks"}

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOOL = PYPROJECT["tool"]
WHEEL = TOOL["hatch"]["build"]["targets"]["wheel"]

FOLDERS = sorted({path.parent.name for path in ROOT.glob("*/__init__.py")} - APART)


def tracked() -> list[Path]:
    """The files of the repository; none where this is no clone of it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        try:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture


# -- packaging --------------------------------------------------------------------------------------------------------


def test_nobody_is_told_to_install_it_from_an_index_where_it_is_not() -> None:
    """What an extra brings is asked for by name (`lacking`): that works for a clone, too."""
    named = [str(path) for path, text in texts() if "taskmaster-lab" + "[" in text]
    assert named == ["pyproject.toml"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_in_every_list(folder: str) -> None:
    layers = TOOL["importlinter"]["contracts"][0]["layers"]
    in_layers = {name.strip() for layer in layers for name in layer.split("|")}

    assert folder in WHEEL["only-include"]
    assert WHEEL["sources"][folder] == f"taskmaster/{folder}"
    assert folder in TOOL["hatch"]["build"]["targets"]["sdist"]["only-include"]
    assert folder in TOOL["coverage"]["run"]["source"]
    assert TOOL["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"][folder]["msg"] == f"import taskmaster.{folder}"
    assert f"taskmaster.{folder}" in in_layers


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_reached_through_the_package(folder: str) -> None:
    link = ROOT / "src" / "taskmaster" / folder
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{folder}"


def test_no_list_names_what_is_not_there() -> None:
    links = {path.name for path in (ROOT / "src" / "taskmaster").iterdir() if path.is_symlink()}
    assert links == set(FOLDERS)
    assert set(WHEEL["sources"]) - {"src/taskmaster"} == {*FOLDERS, "systemd"}
    for name in [*WHEEL["only-include"], *TOOL["hatch"]["build"]["targets"]["sdist"]["only-include"]]:
        assert (ROOT / name).exists(), f"pyproject.toml includes {name}, which is not there"


def test_the_units_are_found_in_a_wheel_as_in_a_checkout() -> None:
    """Where the command line looks for them there is a link in a checkout, and they themselves in a wheel."""
    link = ROOT / "cli" / "systemd"
    assert link.is_symlink()
    assert str(link.readlink()) == "../systemd"
    assert WHEEL["sources"]["systemd"] == "taskmaster/cli/systemd"
    assert "/cli/systemd" in WHEEL["exclude"], "or the link would be followed, too"


def test_a_source_distribution_has_what_its_own_commands_need() -> None:
    included = TOOL["hatch"]["build"]["targets"]["sdist"]["only-include"]
    for name in ("Makefile", "constraints.txt", "tools", "tests", "docs", "examples", "benchmarks"):
        assert name in included, f"the sdist lacks {name}"


# -- constraints ------------------------------------------------------------------------------------------------------


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    for line in pinned:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+]*", line), f"constraints.txt: {line!r}"
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in pinned)}


def requirements() -> Iterator[Requirement]:
    project = PYPROJECT["project"]
    for group in (
        PYPROJECT["build-system"]["requires"],
        project["dependencies"],
        *project["optional-dependencies"].values(),
    ):
        yield from map(Requirement, group)


def test_constraints_fix_every_requirement_within_its_bounds() -> None:
    pinned = constraints()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name == canonicalize_name(PYPROJECT["project"]["name"]):
            assert requirement.extras <= set(PYPROJECT["project"]["optional-dependencies"])
            continue
        assert name in pinned, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes {pinned[name]}"


def test_requirements_are_bounded_from_below() -> None:
    for requirement in requirements():
        if not requirement.extras:
            assert any(bound.operator == ">=" for bound in requirement.specifier), f"{requirement} has no lower bound"


# -- the files --------------------------------------------------------------------------------------------------------


def test_nothing_of_anybodys_machine_is_in_the_repository() -> None:
    # In pieces, so that this file is not found by itself.
    folders = "|".join(("wo" + "rk", "ho" + "me", "ro" + "ot", "Us" + "ers"))
    forbidden = re.compile(rf"(?<![\w.~}}])/(?:{folders})/\w+")
    for path, text in texts():
        found = forbidden.search(text)
        assert found is None, f"{path}: {found and found[0]} is a path of one machine"


def test_no_leftovers_are_in_the_repository() -> None:
    leftover = re.compile(r"\.(orig|rej|bak|swp|pyc)$|~$")
    assert [path for path in tracked() if leftover.search(path.name)] == []


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings, as they are made by GitHub."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_code, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", sorted(str(path.relative_to(ROOT)) for path in tracked() if path.suffix == ".md"))
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), f"{document}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{document}: {target} has no such heading"


def test_the_readme_leads_to_each_document_once() -> None:
    listed = re.findall(r"\]\((docs/\w+\.md)\)", section(document("README.md"), "Documents"))
    assert sorted(listed) == sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


# -- make -------------------------------------------------------------------------------------------------------------


def pretend(folder: Path, program: str, script: str) -> None:
    """Put a program in a folder for the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / program
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def run_tool(tool: str, path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A script of `tools/` on a machine that has the programs in ``path`` and the usual ones, but no Python."""
    path.mkdir(exist_ok=True)
    for program in ("sh", "dirname", "cat", "sha256sum", "id"):
        found = shutil.which(program)
        assert found is not None
        if not (path / program).exists():
            (path / program).symlink_to(found)
    return subprocess.run(
        ["sh", str(ROOT / "tools" / tool), *arguments],
        env={"PATH": str(path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_named_with_the_remedy(tmp_path: Path) -> None:
    pretend(tmp_path / "bin", "python3", 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    result = run_tool("environment.sh", tmp_path / "bin", "demo", VENV=str(tmp_path / "venv"))
    assert result.returncode == 1
    assert "needs Python 3.11 or later; Python 3.9.2 here" in result.stderr
    assert "apt install python3 python3-venv" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_named_with_the_remedy(tmp_path: Path) -> None:
    result = run_tool("environment.sh", tmp_path / "bin", "test", VENV=str(tmp_path / "venv"))
    assert result.returncode == 1
    assert "python3 is not installed" in result.stderr


def test_a_missing_venv_module_is_named_with_its_package(tmp_path: Path) -> None:
    without = f'case "$*" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac'
    pretend(tmp_path / "bin", "python3", without)
    result = run_tool("environment.sh", tmp_path / "bin", "demo", VENV=str(tmp_path / "venv"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert result.returncode == 1
    assert "its venv module is not installed" in result.stderr
    assert f"sudo apt install python{version}-venv" in result.stderr


def test_missing_system_packages_are_named_to_who_may_not_install_them(tmp_path: Path) -> None:
    pretend(tmp_path / "bin", "python3", f'exec {sys.executable} "$@"')
    pretend(tmp_path / "bin", "id", "echo 1000")
    result = run_tool("system-packages.sh", tmp_path / "bin")
    assert result.returncode == 1
    assert "missing on this machine: make" in result.stderr
    assert "sudo apt install make" in result.stderr
