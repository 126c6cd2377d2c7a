"""From nothing to a configuration that is right: init, check, config."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.cli import Program, taskmaster
from helpers.documents import document, section, tables

from taskmaster.bus.keys import read_pair
from taskmaster.config.load import load
from taskmaster.config.schema import json_schema
from taskmaster.config.shipped import example, examples


def test_init_writes_something_that_is_right(tmp_path: Path, typed: Program) -> None:
    said = typed("init", tmp_path / "lab")
    assert said.status == 0
    assert f"taskmaster serve {tmp_path}/lab/taskmaster.toml" in said.out, "what to type next"
    assert "learn resonance --learner random " in said.out, "which needs no package that is not there"

    said = typed("check", tmp_path / "lab" / "taskmaster.toml")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines()[:2] == [
        "master     driver   what      name                 found",
        "resonance  process  function  resonance:amplitude  yes",
    ]
    assert "/taskmaster.toml is right\nstate " in said.out

    before = (tmp_path / "lab" / "taskmaster.toml").read_text()
    assert read_pair(tmp_path / "lab" / "daemon.key"), "which nobody else may read"
    (tmp_path / "lab" / "resonance.py").unlink()
    (tmp_path / "lab" / "daemon.key").unlink()
    said = typed("init", tmp_path / "lab")
    assert said.status == 1
    assert said.err.endswith("/taskmaster.toml is there already; nothing was written\n")
    made = {path.name for path in (tmp_path / "lab").iterdir()} - {
        "__pycache__"
    }  # to try it Python may have compiled it
    assert made == {"taskmaster.toml"}
    assert (tmp_path / "lab" / "taskmaster.toml").read_text() == before


def test_init_without_a_folder_writes_into_this_one(tmp_path: Path) -> None:
    said = taskmaster("init", folder=tmp_path)
    assert "\n  taskmaster serve taskmaster.toml\n" in said.out
    assert load(tmp_path / "taskmaster.toml").masters.keys() == {"resonance"}


CONFIG = """
[masters.good]
driver = "process"
function = "work:good"
workers = 1
[masters.misspelt]
driver = "process"
function = "work:goood"
workers = 1
[masters.broken]
driver = "process"
function = "broken:evaluate"
setup = "work:setup"
workers = 1
[masters.unfit]
driver = "process"
function = "work:two"
call = "keywords"
workers = 1
[masters.unfit.parameters]
x = {}
[masters.fatal]
driver = "process"
function = "fatal:evaluate"
workers = 1
env = { HOW = "7" }
"""
WORK = """
print("the modules may say what they like")
def good(point): return point
def setup(): raise RuntimeError("set-ups are not called")
def two(x, y): return x
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "lab.toml").write_text(CONFIG)
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "broken.py").write_text("import nowhere\ndef evaluate(x): return x\n")
    (tmp_path / "fatal.py").write_text("import os\nos._exit(int(os.environ['HOW']))\n")
    return tmp_path / "lab.toml"


def test_check_imports_every_function_as_its_workers_would(lab: Path) -> None:
    said = taskmaster("check", lab, "--json")
    found = json.loads(said.out)
    assert said.status == 3
    assert said.err.endswith(f"taskmaster: {lab}: 4 functions cannot be used, see above\n")
    assert (found["config"], found["ok"]) == (str(lab), False)
    problems = {(name, one["role"]): one["problem"] for name, findings in found["masters"].items() for one in findings}
    assert problems.pop(("good", "function")) == ""
    assert problems.pop(("broken", "setup")) == ""
    assert "has no 'goood'; did you mean 'good'?" in problems.pop(("misspelt", "function"))
    assert "importing it raised ModuleNotFoundError: No module named 'nowhere'" in problems.pop(("broken", "function"))
    assert problems.pop(("unfit", "function")).startswith("work:two(x, y) cannot be called with x: missing a required")
    assert problems.pop(("fatal", "function")) == "importing it ended the process with status 7"
    assert problems == {}

    table, _, rest = taskmaster("check", lab).out.partition("\n\n")
    assert [line.split()[-1] for line in table.splitlines()] == ["found", "yes", "no", "no", "yes", "no", "no"]
    assert "Master 'broken', function: importing it raised ModuleNotFoundError" in rest
    traceback = rest.partition("importing it raised")[2].partition("\n\n")[0].splitlines()[1:]
    assert traceback == [
        "Traceback (most recent call last):",
        f'  File "{lab.parent / "broken.py"}", line 1, in <module>',
        "    import nowhere",
        "ModuleNotFoundError: No module named 'nowhere'",
    ], "which says where, and no more"


def test_check_looks_for_what_may_be_called(lab: Path, typed: Program) -> None:
    names = ["work:good", "work:*", "work:god", "wrok:*", "wrok.*", "math:pi"]
    lab.write_text(f"[masters.calls]\ndriver = 'process'\ncalls = {names}\n")
    found = json.loads(typed("check", lab, "--json").out)
    problems = {one["name"]: one["problem"] for one in found["masters"]["calls"]}
    assert list(problems) == names
    assert problems["work:good"] == problems["work:*"] == ""
    assert "has no 'god'; did you mean 'good'?" in problems["work:god"]
    assert problems["wrok:*"].startswith("calls 'wrok:*': no module 'wrok' in ")
    assert problems["wrok.*"].startswith("calls 'wrok.*': no module 'wrok' in ")
    assert problems["math:pi"] == "function 'math:pi' is a float, not something to call"
    assert [(one["line"], one["key"]) for one in found["mistakes"]] == [
        (3, f"masters.calls.calls[{k}]") for k in (2, 3, 4, 5)
    ]
    assert typed("check", lab).err.endswith(f"{lab}: 4 functions cannot be used, see above\n")


def test_of_a_slip_in_its_syntax_a_module_is_told_file_and_line(lab: Path) -> None:
    (lab.parent / "broken.py").write_text("\ndef evaluate(x:\n    return x\n")
    rest = taskmaster("check", lab).out
    place = f"{lab.parent / 'broken.py'}, line 2"
    assert f"Master 'broken', function: importing it raised SyntaxError: {place}: '(' was never closed\n" in rest
    assert "Traceback" not in rest.partition("was never closed")[2].partition("Master 'fatal'")[0]


def test_check_looks_for_the_class_of_an_instrument(tmp_path: Path, typed: Program) -> None:
    (tmp_path / "lab.py").write_text("class Probe: pass\nprobe = Probe\ndef make(): return Probe()\n")
    for name, problem in (("Probe", ""), ("Prob", "did you mean 'Probe'"), ("make", ", not a class")):
        path = tmp_path / f"{name}.toml"
        path.write_text(f'[masters.stm]\ndriver = "instrument"\nclass = "lab:{name}"\n')
        found = json.loads(typed("check", path, "--json").out)["masters"]["stm"]
        assert [(one["role"], one["name"]) for one in found] == [("class", f"lab:{name}")]
        assert problem in found[0]["problem"]
        assert bool(problem) == bool(found[0]["problem"])

    (tmp_path / "lab.toml").write_text('[masters.stm]\ndriver = "instrument"\nclass = "lab:Prob"\n')
    assert typed("check", tmp_path / "lab.toml").err.endswith("lab.toml: 1 class cannot be used, see above\n")


def test_a_driver_that_does_not_exist_is_not_said_to_be_found(tmp_path: Path, typed: Program) -> None:
    path = tmp_path / "lab.toml"
    path.write_text('[masters.stm]\ndriver = "vis"\nresource = "GPIB::1"\ncommands.safe = []\n')
    said = typed("check", path)
    assert (said.status, said.out) == (3, "")
    assert said.err.endswith("masters.stm.driver: unknown driver 'vis'; did you mean 'visa'?\n")


def test_check_says_what_to_install_for_a_librarys_class(tmp_path: Path, typed: Program) -> None:
    shadow = tmp_path / "qcodes"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("raise ModuleNotFoundError('gone', name='qcodes')\n")
    path = tmp_path / "lab.toml"
    path.write_text('[masters.dot]\ndriver = "instrument"\nclass = "qcodes.tests:Dummy"\n')
    assert "needs qcodes: pip install qcodes (it is in the extra 'qcodes')" in typed("check", path).out


def test_check_names_every_mistake_with_its_line(lab: Path, typed: Program) -> None:
    lab.write_text("[daemon]\nlisten = 5\n[masters.good]\ndriver = 'process'\nfuncton = 'work:good'\n")
    said = typed("check", lab)
    assert (said.status, said.out) == (3, "")
    assert len(said.err.splitlines()) == 3
    assert all(line.startswith(f"taskmaster: {lab}:") for line in said.err.splitlines())
    assert "lab.toml:5: masters.good.functon: unknown key; did you mean 'function'?" in said.err


def test_one_mistake_keeps_no_other_from_being_found(lab: Path) -> None:
    """A folder that is missing, a key that is misspelt: what can be imported is, all the same."""
    lab.write_text(
        "[masters.away]\ndriver = 'process'\nfunction = 'work:good'\npath = ['nowhere']\n"
        "[masters.slip]\ndriver = 'proces'\nfunction = 'work:goood'\nworker = 2\n"
    )
    said = taskmaster("check", lab, "--json")
    found = json.loads(said.out)
    assert (said.status, found["ok"], list(found["masters"])) == (3, False, ["slip"])
    assert [(one["file"], one["line"], one["key"]) for one in found["mistakes"]] == [
        (str(lab), 4, "masters.away.path[0]"),
        (str(lab), 6, "masters.slip.driver"),
        (str(lab), 7, "masters.slip.function"),
        (str(lab), 8, "masters.slip.worker"),
    ]
    assert "did you mean 'good'?" in found["mistakes"][2]["message"]
    assert said.err.splitlines()[-1] == f"taskmaster: {lab}: 1 function cannot be used, see above"
    assert len([line for line in said.err.splitlines() if line.startswith("taskmaster: ")]) == 4


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (None, None, "there is no such file; `taskmaster init` writes one to start from"),
        ("x = \n", 1, "not valid TOML: "),
    ],
)
def test_a_program_is_told_of_a_file_that_cannot_be_read(
    text: str | None, line: int | None, message: str, tmp_path: Path, typed: Program
) -> None:
    file = tmp_path / "lab.toml"
    if text is not None:
        file.write_text(text)
    said = typed("check", file, "--json")
    found = json.loads(said.out)
    [mistake] = found["mistakes"]
    assert (said.status, found["ok"], found["masters"]) == (3, False, {})
    assert (mistake["file"], mistake["line"], mistake["key"]) == (str(file), line, "")
    assert mistake["message"].startswith(message)


def test_check_of_what_is_not_there(tmp_path: Path, typed: Program) -> None:
    assert typed("check", tmp_path / "lab.toml").status == 3
    said = typed("check", "--journal", tmp_path)
    assert said.status == 1
    assert said.err.startswith(f"taskmaster: there is no journal in {tmp_path}")
    assert typed("check", "--journal", tmp_path / "nowhere").status == 2


def test_check_prints_the_documented_keys(lab: Path, tmp_path: Path, typed: Program) -> None:
    keys, _ = tables(section(document("docs/cli.md"), "Of `check CONFIG`"))
    lab.write_text('[masters.good]\ndriver = "process"\nfunction = "work:good"\n')
    said = typed("check", lab, "--json")
    assert said.status == 0
    found = json.loads(said.out)
    assert list(found) == [row[0] for row in keys]
    assert found["mistakes"] == found["cautions"] == []
    assert found["masters"]["good"] == [{"role": "function", "name": "work:good", "problem": "", "traceback": ""}]
    described = next(row[1] for row in keys if row[0] == "masters")
    assert all(f"`{key}`" in described for key in found["masters"]["good"][0])


def test_config_prints_the_schema_and_the_examples(typed: Program) -> None:
    assert json.loads(typed("config", "schema").out) == json_schema()
    for name in examples():
        assert typed("config", "example", name).out == example(name).read_text(encoding="utf-8")
    assert typed("config", "example").out == typed("config", "example", "full").out
    said = typed("config", "example", "svn")
    assert (said.status, said.err.partition("?")[0]) == (2, "taskmaster: there is no example 'svn'; did you mean 'svm'")


@pytest.mark.parametrize(
    ("lines", "cautioned"),
    [
        ('identify = ""', "masters.stm.commands.safe: nothing can be asked after these commands"),
        ('identify = ""\ncommands.errors.query = "ERR?"', None),
        ('identify = ""\nmonitor.t.query = "TEMP?"', None),
        ("", None),
    ],
    ids=["nothing", "errors", "a monitored value", "identity"],
)
def test_check_says_where_nothing_shows_that_a_head_is_safe(
    lab: Path, typed: Program, lines: str, cautioned: str | None
) -> None:
    lab.write_text(
        f"""[masters.stm]
driver = "visa"
resource = "TCPIP0::127.0.0.1::5025::SOCKET"
parameters.x = {{}}
commands.set = ["POS {{x:.3f}}"]
commands.safe = ["BIAS 0"]
{lines}
"""
    )
    said = typed("check", lab)
    assert said.status == 0, said.err
    assert (cautioned is None) == ("caution" not in said.out)
    assert cautioned is None or f"{lab}: caution: {cautioned}" in said.out


def test_check_says_where_the_safe_steps_of_a_class_are_just_believed(lab: Path, typed: Program) -> None:
    lab.write_text(
        """[masters.dot]
driver = "instrument"
class = "collections:Counter"
init = ["clear"]
set = { x = "update" }
safe = ["clear"]
parameters.x = {}
"""
    )
    said = typed("check", lab)
    assert "caution: masters.dot.safe: nothing is asked after these steps" in said.out
