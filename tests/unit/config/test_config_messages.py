"""What a user reads about a wrong file: the exact lines, and all of them at once."""

from __future__ import annotations

import pytest
from helpers.complaints import complaints

MASTER = """
[masters.svm]
driver = "process"
function = "digits:accuracy"
"""

DRIVERS = "'process', 'thread', 'gpu', 'visa', 'serial', 'instrument', 'human'"


def test_the_plain_table_is_right() -> None:
    assert complaints(MASTER) == []


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = """\
[masters.svm]                 # 1
driver = "process"
function = "digits.accuracy"
timout = "60 s"
workers = -1                  # 5

[masters.svm.parameters]
log_C = { min = 4, max = -2 }
log_gamma = { mim = -6 }

[daemon]                      # 11
durability = "powr"
heartbeat = "20 s"
lost_after = "30 s"

[master.probe]                # 16
driver = "thread"
"""
    assert complaints(text) == [
        (
            "lab.toml:3: masters.svm.function: expected 'module:name', got 'digits.accuracy'; "
            "did you mean 'digits:accuracy'?"
        ),
        "lab.toml:4: masters.svm.timout: unknown key; did you mean 'timeout'?",
        "lab.toml:5: masters.svm.workers: expected at least 0, got -1",
        "lab.toml:8: masters.svm.parameters.log_C.max: expected at least min = 4, got -2",
        "lab.toml:9: masters.svm.parameters.log_gamma.mim: unknown key; did you mean 'min'?",
        "lab.toml:12: daemon.durability: expected 'power' or 'crash', got 'powr'; did you mean 'power'?",
        "lab.toml:14: daemon.lost_after: expected at least 3 × heartbeat = 1 min, got 30 s",
        "lab.toml:16: master: unknown key; did you mean 'masters'?",
    ]


def test_a_wrong_driver_hides_no_other_mistake() -> None:
    """One that is misspelt is read as the one meant; of one that nobody knows, what most have is looked at."""
    text = """\
[masters.svm]
driver = "proces"
function = "digits.accuracy"
timeout = "soon"
wokers = 1

[masters.probe]               # 7
driver = "dask"
function = "scan.py:line"
address = "GPIB0::5"
path = ["nowhere"]            # 11
"""
    assert complaints(text) == [
        "lab.toml:2: masters.svm.driver: unknown driver 'proces'; did you mean 'process'?",
        (
            "lab.toml:3: masters.svm.function: expected 'module:name', got 'digits.accuracy'; "
            "did you mean 'digits:accuracy'?"
        ),
        (
            "lab.toml:4: masters.svm.timeout: 'soon' is not a duration; write a number and one of us, µs, ms, s, min, "
            "h, d, like '60 s'"
        ),
        "lab.toml:5: masters.svm.wokers: unknown key; did you mean 'workers'?",
        f"lab.toml:8: masters.probe.driver: unknown driver 'dask'; known are {DRIVERS}",
        "lab.toml:9: masters.probe.function: expected 'module:name', got 'scan.py:line'; did you mean 'scan:line'?",
        "lab.toml:11: masters.probe.path[0]: folder '/nowhere' does not exist",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: masters: no Master is declared; add a table [masters.NAME]"),
        ("[masters]", "1: masters: no Master is declared; add a table [masters.NAME]"),
        ("\nmasters = 3", "2: masters: expected a table, got 3"),
        ("[[daemon]]" + MASTER, "1: daemon: expected a table, got [a table]"),
        ("[masters]\nsvm = true", "2: masters.svm: expected a table, got true"),
        (
            "logging = 1" + MASTER,
            "1: logging: unknown key; known are 'alarms', 'daemon', 'masters', 'metrics', 'retention'",
        ),
        ("[masters.svm]", "1: masters.svm.driver: is missing; for example driver = 'process'"),
        ("[masters.svm]\ndriver = 3", "2: masters.svm.driver: expected text in quotes, got 3"),
        (
            "[masters.svm]\ndriver = 'proces'\nfunction = 'a:b'",
            "2: masters.svm.driver: unknown driver 'proces'; did you mean 'process'?",
        ),
        (
            "[masters.svm]\ndriver = 'dask'",
            f"2: masters.svm.driver: unknown driver 'dask'; known are {DRIVERS}",
        ),
        (
            "[masters.svm]\n\ndriver = 'process'",
            "1: masters.svm.function: is missing; for example function = 'digits:accuracy'",
        ),
        (
            "[masters.'nine lives']\ndriver = 'process'\nfunction = 'a:b'",
            (
                '1: masters."nine lives": '
                "a Master's name is a letter, then letters, digits, '_' or '-', at most 64 in all"
            ),
        ),
    ],
)
def test_structure(text: str, expected: str) -> None:
    assert complaints(text) == [f"lab.toml:{expected}"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("timeout = true", "timeout: expected a duration such as '60 s', got true"),
        ("timeout = -1", "timeout: expected a duration such as '60 s', got -1"),
        ("timeout = inf", "timeout: expected a duration such as '60 s', got inf"),
        ("timeout = 0", "timeout: expected a duration of at least '1 ms', got 0"),
        (
            "timeout = '60 q'",
            "timeout: '60 q' is not a duration; write a number and one of us, µs, ms, s, min, h, d, like '60 s'",
        ),
        ("timeout = '1e999 s'", "timeout: the duration '1e999 s' is too large"),
        ("timeout = 2030-01-01", "timeout: expected a duration such as '60 s', got 2030-01-01"),
        ("on_lost = 'rety'", "on_lost: expected 'retry', 'fail' or 'hold', got 'rety'; did you mean 'retry'?"),
        ("max_attempts = 0", "max_attempts: expected at least 1, got 0"),
        ("max_attempts = '3'", "max_attempts: expected a whole number, got '3'"),
        ("max_attempts = 1.5", "max_attempts: expected a whole number, got 1.5"),
        ("max_attempts = 9223372036854775808", "max_attempts: 9223372036854775808 does not fit 64 bits"),
        ("max_queued_bytes = 1.5", "max_queued_bytes: expected a size such as '512 MB', got 1.5"),
        (
            "max_queued_bytes = '1 parsec'",
            (
                "max_queued_bytes: '1 parsec' is not a size; "
                "write a number and one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, like '512 MB'"
            ),
        ),
        ("max_queued_bytes = '1e999 B'", "max_queued_bytes: the size '1e999 B' is too large"),
        ("description = ['a', 1]", "description: expected text in quotes, got ['a', 1]"),
        ("parameters = [1]", "parameters: expected a table, got [1]"),
        ("memory_limit = '1 MB'", "memory_limit: expected a size of at least '64 MB', got '1 MB'"),
        ("batch = 1", "batch: expected true or false, got 1"),
        ("call = 'keyword'", "call: expected 'point' or 'keywords', got 'keyword'; did you mean 'keywords'?"),
        ("call = 'keywords'", "call: 'keywords' needs declared parameters; add them, or use 'point'"),
        ("setup = 'lab.py:run'", "setup: expected 'module:name', got 'lab.py:run'; did you mean 'lab:run'?"),
        ("teardown = 'a b:c'", "teardown: expected 'module:name', got 'a b:c'"),
        ("recycle_after = 0", "recycle_after: expected at least 1, got 0"),
        ("restart_window = '1 ms'", "restart_window: expected a duration of at least '1 s', got '1 ms'"),
        ("env = { A = 1 }", "env.A: expected text in quotes, got 1"),
        ("env = { 'A=B' = '1' }", "env: 'A=B' = '1' cannot be an environment variable"),
        ("path = '.'", "path: expected a list, got '.'; write ['.']"),
        ("path = ['.', 3]", "path[1]: expected the name of a folder, got 3"),
        ("path = ['no-such-folder']", "path[0]: folder '/no-such-folder' does not exist"),
        ("path = ['/dev/null']", "path[0]: folder '/dev/null' is not a folder"),
        ("path = ['~nobody-here']", "path[0]: cannot tell whose home folder '~nobody-here' is; write the path in full"),
        ("threads = 4", "threads: driver 'process' has no such key; 'thread' has"),
        ("memory_limits = '1 GB'", "memory_limits: unknown key; did you mean 'memory_limit'?"),
        (
            "frob = 1",
            (
                "frob: unknown key; known are 'approval', 'batch', 'call', 'calls', 'code', 'description', 'driver', "
                "'env', 'function', 'max_attempts', 'max_queued_bytes', 'max_queued_tasks', 'memory_limit', "
                "'on_lost', 'outputs', 'parameters', 'path', 'recycle_after', 'restart_window', 'restarts', 'setup', "
                "'teardown', 'timeout', 'workers'"
            ),
        ),
    ],
)
def test_a_masters_keys(line: str, expected: str) -> None:
    assert complaints(f"{MASTER}{line}") == [f"lab.toml:5: masters.svm.{expected}"]


def test_keys_of_one_master_that_exclude_each_other() -> None:
    keywords = "call = 'keywords'\nbatch = true\nparameters = { a = {}, b-c = {}, if = {} }"
    assert complaints(f"{MASTER}{keywords}") == [
        (
            "lab.toml:5: masters.svm.call: expected 'point', as batch = true passes a table of columns; "
            "remove one of the two"
        ),
        "lab.toml:7: masters.svm.parameters.b-c: cannot be a keyword argument; rename it, or use call = 'point'",
        "lab.toml:7: masters.svm.parameters.if: cannot be a keyword argument; rename it, or use call = 'point'",
    ]
    thread = MASTER.replace("process", "thread")
    assert complaints(f"{thread}timeout = '1 s'\nmemory_limit = '1 GB'\nworkers = 'two'") == [
        (
            "lab.toml:5: masters.svm.timeout: a thread cannot be stopped, so driver 'thread' has no timeout; "
            "driver 'process' has"
        ),
        "lab.toml:6: masters.svm.memory_limit: driver 'thread' has no such key; 'process' has",
        "lab.toml:7: masters.svm.workers: driver 'thread' has no such key; 'process' has",
    ]


CALLS = "[masters.any]\ndriver = 'process'\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{CALLS}calls = []", "3: masters.any.calls: expected at least 1 elements, got []"),
        (
            f"{CALLS}calls = ['numpy', '*', 'os.system', 'a:b.*']",
            "3: masters.any.calls[0]: expected 'module:name', 'module:*' or 'package.*', got 'numpy'",
        ),
        (
            f"{CALLS}calls = ['numpy.*']\nfunction = 'a:b'",
            (
                "3: masters.any.calls: a Master has one of function, calls and code; this one has 'function', too: "
                "remove one"
            ),
        ),
        (
            f"{CALLS}calls = ['numpy.*']\nbatch = true",
            "4: masters.any.batch: with 'calls' tasks are calls with arguments of their own; remove 'batch'",
        ),
        (
            f"{CALLS}code = true\nparameters = {{ x = {{}} }}",
            "4: masters.any.parameters: with 'code' tasks are calls with arguments of their own; remove 'parameters'",
        ),
        (
            f"[daemon]\nlisten = 'tcp://127.0.0.1:5570'\n{CALLS}code = true",
            (
                "5: masters.any.code: true needs [daemon] listen = 'ipc:///PATH', or keys: a tcp port is open to "
                "every user of this machine, who could run programs as this one; or use calls = ['module:name', …]"
            ),
        ),
    ],
)
def test_a_master_that_takes_calls(text: str, expected: str) -> None:
    assert complaints(text)[0] == f"lab.toml:{expected}"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("[0, 1]", ": expected a table such as { min = 0, max = 1 }, got [0, 1]"),
        ("{ min = 2, max = 1 }", ".max: expected at least min = 2, got 1"),
        ("{ min = '0' }", ".min: expected a number, got '0'"),
        ("{ min = true }", ".min: expected a number, got true"),
        ("{ max = inf }", ".max: expected a finite number, got inf"),
        ("{ kind = 'int', min = 0.5 }", ".min: expected a whole number, as kind is 'int', got 0.5"),
        ("{ kind = 'str', max = 3 }", ".max: only numbers have limits, and kind is 'str'"),
        ("{ kind = 'number' }", ".kind: expected 'float', 'int', 'bool', 'str' or 'any', got 'number'"),
        (
            "{ min = 0, choices = [1, 2] }",
            ".min: cannot stand beside choices, which are all the values there are; remove one of the two",
        ),
        ("{ choices = [] }", ".choices: expected a list of values, all numbers, all text or all true/false, got []"),
        (
            "{ choices = ['a', 1] }",
            ".choices: expected a list of values, all numbers, all text or all true/false, got ['a', 1]",
        ),
        ("{ choices = 1 }", ".choices: expected a list of values, all numbers, all text or all true/false, got 1"),
        ("{ choices = [1, 2, 1] }", ".choices: 1 is listed twice"),
        ("{ choices = [1.0, nan] }", ".choices: expected finite numbers, got [1.0, nan]"),
        ("{ kind = 'float', choices = ['a'] }", ".choices: expected values of kind 'float', got ['a']"),
        ("{ kind = 'int', choices = [0.5, 1] }", ".choices: expected values of kind 'int', got [0.5, 1]"),
        ("{ shape = 3 }", ".shape: expected a list, got 3"),
        ("{ shape = [3, -2] }", ".shape[1]: expected at least -1, got -2"),
        ("{ shape = [0, 4] }", ".shape: an array of shape [0, 4] has no values; write -1 for an axis of any length"),
        (
            "{ shape = [3], kind = 'any' }",
            ".shape: only arrays of numbers or true/false have a shape, and kind is 'any'",
        ),
        ("{ shape = [3], choices = [1] }", ".shape: cannot stand beside choices: a choice is a single value"),
        ("{ kind = 'int', nan = true }", ".nan: only a 'float' can be NaN, and kind is 'int'"),
        ("{ unit = 3 }", ".unit: expected text in quotes, got 3"),
        (
            "{ bounds = [0, 1] }",
            ".bounds: unknown key; known are 'choices', 'description', 'kind', 'max', 'min', 'nan', 'shape', 'unit'",
        ),
    ],
)
def test_a_parameter(table: str, expected: str) -> None:
    for role in ("parameters", "outputs"):
        text = f"{MASTER}\n[masters.svm.{role}]\nvoltage = {{}}\nmin = {table}"  # its name is that of a key, too
        assert complaints(text) == [f"lab.toml:8: masters.svm.{role}.min{expected}"]


def test_a_parameters_name() -> None:
    assert complaints(f"{MASTER}\n[masters.svm.parameters]\n'log C' = {{}}") == [
        (
            "lab.toml:7: masters.svm.parameters.\"log C\": 'log C' cannot be a name: "
            "use a letter, then letters, digits, '_', '-' or '.', at most 64 in all"
        )
    ]


LIMIT = "bytes and a Unix socket takes 107"
FAR = (
    "can be reached from other machines, and whoever does could do anything: say who may, with keys = 'keys.toml' "
    "(docs/security.md), or listen on 127.0.0.1 or ipc"
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("name = ''", "2: daemon.name: expected 1 to 64 printable characters, got ''"),
        ("state = 3", "2: daemon.state: expected the name of a folder, got 3"),
        ("state = ''", "2: daemon.state: expected the name of a folder, got ''"),
        ("keep_free = -1", "2: daemon.keep_free: expected a size such as '512 MB', got -1"),
        ("heartbeat = '5 s'", "1: daemon.lost_after: expected at least 3 × heartbeat = 15 s, got 10 s"),
        ("heartbeat = '1 ms'", "2: daemon.heartbeat: expected a duration of at least '10 ms', got '1 ms'"),
        ("listens = '*'", "2: daemon.listens: unknown key; did you mean 'listen'?"),
        ("listen = 5570", "2: daemon.listen: expected an address such as 'tcp://127.0.0.1:5570', got 5570"),
        (
            "listen = '127.0.0.1:5570'",
            "2: daemon.listen: expected an address such as 'tcp://127.0.0.1:5570', got '127.0.0.1:5570'",
        ),
        (
            "listen = 'tcp://127.0.0.1'",
            "2: daemon.listen: expected 'tcp://127.0.0.1:PORT' or 'ipc:///PATH', got 'tcp://127.0.0.1'",
        ),
        ("listen = 'inproc://'", "2: daemon.listen: expected 'tcp://127.0.0.1:PORT' or 'ipc:///PATH', got 'inproc://'"),
        ("listen = 'tcp://[::1]:99999'", "2: daemon.listen: expected a port from 0 (any free one) to 65535, got 99999"),
        ("listen = 'tcp://0.0.0.0:5570'", f"2: daemon.listen: 'tcp://0.0.0.0:5570' {FAR}"),
        ("listen = 'tcp://*:5570'", f"2: daemon.listen: 'tcp://0.0.0.0:5570' {FAR}"),
        ("results = 'tcp://[2001:db8::1]:1'", f"2: daemon.results: 'tcp://[2001:db8::1]:1' {FAR}"),
        (
            "workers = 'tcp://lab-7:5570'",
            (
                "2: daemon.workers: expected an IP address of this machine, or 0.0.0.0 for all that it has, not the "
                "name in 'tcp://lab-7:5570'"
            ),
        ),
        ("listen = 'ipc://@lab'", "2: daemon.listen: expected 'ipc://' and the path of a socket, got 'ipc://@lab'"),
        ("listen = 'ipc://'", "2: daemon.listen: expected 'ipc://' and the path of a socket, got 'ipc://'"),
        (
            "listen = 'tcp://127.0.0.1:65534'",
            "2: daemon.listen: leaves no port for workers; choose a port up to 65533, or set workers",
        ),
        ("group = 'the lab'", "2: daemon.group: expected the name of a group, such as 'lab', got 'the lab'"),
        (
            "group = 'lab'\nlisten = 'tcp://127.0.0.1:5570'",
            (
                "2: daemon.group: has no effect: whoever has an account on this machine may connect to "
                "tcp://127.0.0.1:5570; leave listen out, for Unix sockets, or say by keys who may (docs/security.md)"
            ),
        ),
        (
            "results = 'tcp://localhost:5572'\nlisten = 'tcp://127.0.0.1:5570'",
            "3: daemon.listen: results and workers would both be 'tcp://127.0.0.1:5572'; they must differ",
        ),
        (
            "listen = 'ipc:///run/x'\nresults = 'ipc:///run/x'",
            "3: daemon.results: listen and results would both be 'ipc:///run/x'; they must differ",
        ),
        (
            f"listen = 'ipc:///run/{'x' * 103}'\nstate = '/run'",
            (
                f"2: daemon.listen: the path of the socket '/run/{'x' * 103}' has 108 {LIMIT}; "
                "choose a shorter listen, or listen = 'tcp://127.0.0.1:5570'"
            ),
        ),
        (
            f"state = '/{'ä' * 50}'",
            (
                f"2: daemon.state: the path of the socket '/{'ä' * 50}/control' has 109 {LIMIT}; "
                "choose a shorter state, or listen = 'tcp://127.0.0.1:5570'"
            ),
        ),
    ],
)
def test_the_daemons_keys(lines: str, expected: str) -> None:
    assert complaints(f"[daemon]\n{lines}\n{MASTER}") == [f"lab.toml:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[daemon]\nname = lab", ":2: not valid TOML: expected a value; text needs quotes (column 8)"),
        ("[daemon]\nname = 'a' b", ":2: not valid TOML: expected the end of the line; text needs quotes (column 12)"),
        ('name = "lab\n', ":1: not valid TOML: the text is not closed on its line (column 12)"),
        ("a = 1\na = 2\n", ":2: not valid TOML: the key is there already (column 6)"),
        ("[a.b]\nc = 1\n[a.b]\n", ":3: not valid TOML: cannot declare a.b twice (column 5)"),
        ('path = "C:\\data"\n', ":1: not valid TOML: a \\ in \"…\" must be doubled, or use '…' (column 13)"),
        ("x = [1,\n2\n", ":2: not valid TOML: unclosed array (at the end of the file)"),
        (f"x = {'[' * 20_000}", ": lists or tables are nested too deeply"),
        (f"x = {'9' * 5_000}", ": not valid TOML: a number has too many digits"),
    ],
)
def test_what_is_not_toml(text: str, expected: str) -> None:
    assert complaints(text) == [f"lab.toml{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[alarms]\ncommand = []", "2: alarms.command: expected a program and its arguments, such as"),
        ("[alarms]\ncommand = 'mail'", "2: alarms.command: expected a program and its arguments, such as"),
        (
            "[alarms]\ncommand = ['./none']",
            "2: alarms.command: there is no program /none that may be run; chmod +x",
        ),
        ("[alarms]\ncomand = ['x']", "2: alarms.comand: unknown key; did you mean 'command'?"),
        ("[metrics]\nlisten = 'here'", "2: metrics.listen: expected a port, or 'ADDRESS:PORT' such as"),
        ("[metrics]\nlisten = 99999", "2: metrics.listen: expected a port, or 'ADDRESS:PORT' such as"),
        ("[metrics]\nlisten = 'lab:9469'", "2: metrics.listen: expected the number of an address, such as"),
        ("[retention]\nclosed = 'soon'", "2: retention.closed: 'soon' is not a duration"),
        ("[retention]\nsize = '1 kB'", "2: retention.size: expected a size of at least '1 MB', got '1 kB'"),
        ("[retention]\narchive = 'csv'", "2: retention.archive: expected 'parquet' or 'none', got 'csv'"),
        ("retention = 3", "1: retention: expected a table, got 3"),
    ],
)
def test_operations(text: str, expected: str) -> None:
    [said] = complaints(f"{text}{MASTER}")
    assert said.startswith(f"lab.toml:{expected}"), said
