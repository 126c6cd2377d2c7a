"""The documents' programs run as they are printed."""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cli import Terminal
from helpers.daemon import Daemon
from helpers.documents import code_blocks, document, section
from helpers.reader import Reader, alike

PROTOCOL = document("docs/protocol.md")

ADDER = {
    "driver": "process",
    "function": "never:called",
    "workers": 0,
    "parameters": {"a": {}, "b": {}},
    "outputs": {"sum": {}},
}


@pytest.fixture
def adder(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with a Master that has no workers of its own."""
    daemon = Daemon(tmp_path, {"adder": ADDER}).start()
    yield daemon
    daemon.close()


def start(program: str, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "TASKMASTER": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_client_and_a_worker_can_be_written_from_the_document(adder: Daemon) -> None:
    [client_code] = code_blocks(section(PROTOCOL, "The least client"), "python")
    [worker_code] = code_blocks(section(PROTOCOL, "The least worker"), "python")
    assert "taskmaster" not in client_code + worker_code, "they must do without our code"

    with start(worker_code, adder.address) as worker, start(client_code, adder.address) as client:
        try:
            printed = client.communicate(timeout=60)[0]
            assert client.returncode == 0, printed
            assert sorted(printed.splitlines()) == ["(1.0, 2.0) 3.0", "(3.0, 4.0) 7.0", "(5.0, 6.0) 11.0"]
        finally:
            client.kill()
            worker.kill()


# -- the tutorial -----------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.close()


@pytest.mark.slow
def test_the_tutorial_works_word_for_word(reader: Reader, tmp_path: Path) -> None:
    reader.follow(document("docs/tutorial.md"))
    status = reader.interrupt()

    assert [command for command in reader.commands if command.startswith("python")] == [
        "python first.py",
        "python wrong.py",
        "python sweep.py",
        "python rest.py",
        "python learn.py",
    ]
    assert len((tmp_path / "overnight.csv").read_text().splitlines()) >= 61, "a heading and 60 results"
    assert status in (0, 130)


# -- the Python API ---------------------------------------------------------------------------------------------------


def test_the_programs_about_executors_and_maps_print_what_they_should() -> None:
    programs = code_blocks(section(document("docs/learners.md"), "Executors and maps"), "python")
    printed = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
        for code in programs
    ]
    assert printed == ["[0, 1, 4, 9, 16]\n", "[1.0, 0.25]\n", "[3, 2, 1, 0, 1, 2]\n"]


def test_the_page_of_the_python_api_runs_from_the_first_line_to_the_last(reader: Reader, tmp_path: Path) -> None:
    text = document("docs/python.md")
    reader.follow(text[: text.index("## connect")])
    reader.follow("```console\n$ taskmaster serve taskmaster.toml\n```\n")
    program = "\n".join(code_blocks(text[text.index("## connect") :], "python"))
    around = {**os.environ, "TASKMASTER": f"ipc://{tmp_path}/state/control"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=around, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for line in ("lab-7 ['hills', 'anything']", "[0.25, 1.0]", "1 failed ZeroDivisionError", "[1024, [3, 2, 1]]"):
        assert line in result.stdout


# -- a run that went wrong --------------------------------------------------------------------------------------------


def stepped(session: str, address: str) -> str:
    """What a terminal shows where somebody types what stands behind the prompts."""
    command = session.splitlines()[0].removeprefix("$ taskmaster ").split()
    with Terminal(*command, columns=120, environment={"TASKMASTER": address, "PYTHONBREAKPOINT": ""}) as terminal:
        for k, (prompt, typed) in enumerate(re.findall(r"^(step:|\(Pdb\))(.*)$", session, re.MULTILINE), 1):
            terminal.await_text(rf"(?s)(?:(?:step:|\(Pdb\)).*?){{{k}}}(?<={re.escape(prompt)} )$")
            terminal.press(f"{typed.strip()}\r")
        assert terminal.wait() == 0
        return f"$ taskmaster {' '.join(command)}\n{terminal.text}"


def test_a_run_that_went_wrong_is_mended_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = document("docs/debugging.md")
    reader = Reader(tmp_path, alike)
    try:
        reader.follow(text)
        said = code_blocks(text, "python")[-1]
        program = (
            "from climber import Climber\nfrom taskmaster.learners import connect\n"
            "with connect() as lab, lab['hill'].open() as run:\n    learner = Climber()\n"
            f"{textwrap.indent(said, '    ')}\n"
            "    run.flush()\n    assert [block.asks[0].asked for block in run.record()] == [4]\n"
        )
        (tmp_path / "own.py").write_text(program, encoding="utf-8")
        reader.follow("```console\n$ python own.py\n```\n")
        monkeypatch.chdir(tmp_path)
        [session] = code_blocks(text, "text")
        assert alike(stepped(session, f"ipc://{tmp_path}/state/control"), session)
    finally:
        reader.close()


# -- people -----------------------------------------------------------------------------------------------------------


def test_the_page_about_people_works_word_for_word(reader: Reader, tmp_path: Path) -> None:
    before, code, after = re.split(r"^```python\n(from .*?)^```\n", document("docs/people.md"), flags=re.M | re.S)
    reader.follow(before)
    around = {**os.environ, "TASKMASTER": f"ipc://{tmp_path}/state/control"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=around, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines() == [
        "Weigh the sample and enter its mass.",
        "[(2, '')]",
        "2 {'sample': 12}",
        "0 {'mass': 12.5, 'note': 'a bit wet'} human:" + getpass.getuser(),
        "1 CannotBeDone: the vial is broken human:" + getpass.getuser(),
        "2 {'mass': 8.25, 'note': ''} human:ada",
    ]
    reader.follow(after)
