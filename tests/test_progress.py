"""Bars appear with the first piece of work, and never beside the one line of an error."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from time import sleep

import pytest

from sempairs.progress import bar, track, withdraw


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[io.StringIO, Terminal], ids=["pipe", "terminal"])
def shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.delenv("SEMPAIRS_QUIET", raising=False)
    stream: io.StringIO = request.param()
    return stream


def broken(after: int, pause: float) -> Iterator[int]:
    yield from range(after)
    sleep(pause)
    raise ValueError("broken")


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_work_that_fails_before_its_first_piece_shows_nothing(shown: io.StringIO, pause: float) -> None:
    with redirect_stderr(shown), pytest.raises(ValueError, match="broken"):
        list(track(broken(0, pause), total=5, what="decoding"))
    with redirect_stderr(shown), pytest.raises(ValueError, match="broken"), bar(total=5, what="decoding"):
        sleep(pause)
        raise ValueError("broken")
    with redirect_stderr(shown):
        withdraw()
    assert shown.getvalue() == ""


def test_an_error_of_whoever_takes_the_pieces_has_its_own_line(shown: io.StringIO) -> None:
    with redirect_stderr(shown):
        pieces = track(range(5), what="decoding")
        for piece in pieces:
            sleep(0.25)
            if piece == 3:
                break
        withdraw()
    assert ("decoding" in shown.getvalue()) == shown.isatty()  # without a terminal a line every ten seconds
    shown.write("error: broken\n")
    last = shown.getvalue().splitlines()[-1]  # a carriage return begins a line anew
    assert last == "error: broken"
    written = shown.getvalue()
    del pieces
    assert shown.getvalue() == written


def test_work_that_lasts_is_shown_to_its_end(shown: io.StringIO) -> None:
    with redirect_stderr(shown):
        for _ in track(range(4), what="decoding", unit="image"):
            sleep(0.25)
    assert ("100%" in shown.getvalue() and "4/4" in shown.getvalue()) == shown.isatty()
