"""Bars of long work: where they are asked for, and nowhere else."""

import sys

from modelkit._internal.progress import bars, counted_off, step


def shown(capsys, asked, *, around=None):
    with bars(around), bars(asked, "save"):
        step("rows of zeros")
        assert [*counted_off(range(3), "explain", "row")] == [0, 1, 2]
    return capsys.readouterr().err


def test_a_bar_is_shown_where_it_is_asked_for(capsys):
    err = shown(capsys, True)
    assert "save" in err
    assert "explain:" in err


def test_a_library_call_shows_none(capsys):
    assert shown(capsys, None) == ""
    assert shown(capsys, False) == ""


def test_the_work_around_decides_where_nobody_asks(capsys):
    assert "explain" in shown(capsys, None, around=True)
    assert shown(capsys, False, around=True) == ""
    assert shown(capsys, None) == ""


def test_a_notebook_that_cannot_draw_bars_shows_none(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr("modelkit._internal.progress.find_spec", lambda name: None)
    assert shown(capsys, None) == ""
