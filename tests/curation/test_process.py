"""The server as a process: killed, doubled, stopped, and where it may not write."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import sempairs
from sempairs.cli.main import run
from sempairs.curation.store import LOG, standing_verdicts

COMMAND = [sys.executable, "-m", "sempairs", "curate"]


class Served:
    """`sempairs curate` on a free port."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, folder, "--port", "0", "--reviewer", "Ann B"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        self.address = self.process.stdout.readline().split()[1]
        self.port = int(self.address.split(":")[2].partition("/")[0])

    def ask(self, path: str, body: object = None) -> dict:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        link.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
        answer = link.getresponse()
        found = json.loads(answer.read())
        link.close()
        assert answer.status == 200, found
        return found

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def serve(folder):
    running = []

    def start():
        running.append(Served(folder))
        return running[-1]

    yield start
    for served in running:
        if served.process.poll() is None:
            served.end(signal.SIGKILL)


def test_nothing_is_lost_when_killed_between_two_keystrokes(folder, serve):
    said = {}
    for round_ in range(2):
        served = serve()
        for pair in served.ask("/api/pairs?queue=all&reviewer=Ann&limit=3")["pairs"]:
            verdict = ("yes", "no", "unsure")[len(said) % 3]
            body = {
                "reviewer": "Ann",
                "pair": pair["id"],
                "verdict": verdict,
                "queue": "all",
                "note": f"{round_}",
            }
            served.ask("/api/verdicts", {**body, "event": str(uuid.uuid4())})
            said[pair["anchor"]["id"], pair["partner"]["id"]] = verdict
        assert served.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert len(said) == 6
    rows = standing_verdicts(folder).to_pylist()
    assert {(row["anchor"], row["partner"]): row["verdict"] for row in rows} == said
    # It starts again where it was, and undo still reaches all the way back.
    served = serve()
    assert "6 judged" in served.first
    for left in range(5, -1, -1):
        answer = served.ask("/api/undo", {"reviewer": "Ann", "event": str(uuid.uuid4())})
        assert answer["undo"] == left
    assert served.ask("/api/state?reviewer=Ann")["progress"]["judged"] == 0


def test_ctrl_c_ends_it_with_one_calm_line(serve, folder):
    served = serve()
    assert served.address.endswith("/?reviewer=Ann%20B")
    assert served.ask("/api/state")["reviewer"] == "Ann B"
    status, out, err = served.end(signal.SIGINT)
    assert status == 0 and err == ""
    assert out == f"stopped; every verdict is in {folder / LOG}\n"
    assert not (folder / f"{LOG}-wal").exists()  # all in one file, easily copied


def test_a_second_server_on_the_folder_is_refused_in_one_line(serve, folder, sempairs):
    served = serve()
    status, _, errors = sempairs("curate", folder, "--port", 0)
    assert status == 2 and len(errors) == 1 and "in use by another process" in errors[0]
    assert served.ask("/api/state")["progress"]["pairs"] == 12


def test_a_taken_port_and_a_bad_address_are_one_line(folder, sempairs):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, _, errors = sempairs("curate", folder, "--port", taken.getsockname()[1])
    assert status == 2 and "--port" in errors[0]
    for host, port in (("no.such.name.invalid", 0), ("127.0.0.1", 99999)):
        status, _, errors = sempairs("curate", folder, "--host", host, "--port", port)
        assert status == 2 and len(errors) == 1


def test_mistakes_are_one_line(folder, sempairs, tmp_path):
    (tmp_path / "empty").mkdir()
    log = folder / LOG
    cases = [
        ([tmp_path / "empty"], "no folder of pairs"),
        ([tmp_path / "none"], "no folder of pairs"),
        ([folder / "augmented"], "nothing to judge"),
        ([folder, "--reviewer", " x"], "reviewer must be"),
    ]
    for arguments, rule in cases:
        status, _, errors = sempairs("curate", *arguments, "--port", 0)
        assert status == 2 and len(errors) == 1 and rule in errors[0], errors
    assert not (tmp_path / "none").exists()
    log.write_bytes(b"no database" * 100)
    status, _, errors = sempairs("curate", folder, "--port", 0)
    assert status == 2 and "is damaged" in errors[0] and log.read_bytes() == b"no database" * 100


def _others_may_read() -> bool:
    """Whether a user without rights gets at this code and its environment."""
    places = [Path(sys.prefix), Path(sempairs.__file__)]
    return all(folder.stat().st_mode & 0o005 == 0o005 for place in places for folder in place.parents)


@pytest.mark.skipif(
    os.geteuid() != 0 or not _others_may_read(),
    reason="only root may become somebody who may not write, and only where others may read the code",
)
def test_a_read_only_folder_is_one_line(folder):
    read_only = Path("/tmp") / f"sempairs-{uuid.uuid4()}"
    shutil.copytree(folder, read_only)
    code = (
        "import os, sys\n"
        "from sempairs.cli.main import run\n"
        "import sempairs.curation.server\n"
        "os.setuid(65534)\n"
        "sys.exit(run(['curate', sys.argv[1], '--port', '0']))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, read_only], capture_output=True, text=True, timeout=60
        )
    finally:
        shutil.rmtree(read_only)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr and "copy the folder" in done.stderr


def test_without_the_extra_the_remedy_is_named(folder):
    code = (
        "import sys\n"
        "sys.modules['uvicorn'] = None\n"
        "from sempairs.cli.main import run\n"
        "sys.exit(run(['curate', sys.argv[1]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert done.returncode == 2 and "pip install 'sempairs[curate]'" in done.stderr, done.stderr


def test_help_is_there(capsys):
    assert run(["curate", "--help"]) == 0 and "--reviewer" in capsys.readouterr().out
