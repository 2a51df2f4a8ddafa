"""`modelkit bench`: how long calls take."""

from helpers.commands import run


def test_a_line_for_each_number_of_rows(capsys, shell):
    status, out, _ = run(capsys, "bench", "churn.mk")
    assert status == 0
    head, one, many, where = out.splitlines()
    assert head.split() == ["rows", "calls", "p50", "p99", "rows/s"]
    assert (one.split()[0], many.split()[0]) == ("1", "1,000")
    assert all(int(line.split()[1].replace(",", "")) >= 10 for line in (one, many))
    assert where.startswith("on cpu")


def test_encoders_are_timed_too(capsys, shell, fast_clock):
    assert run(capsys, "bench", "encoder.mk")[0] == 0
