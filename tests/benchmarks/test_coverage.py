import sys

import pytest

from benchmarks import coverage


def test_the_table_has_every_figure_by_every_method(monkeypatch, capsys):
    monkeypatch.setattr(coverage, "N_SUBJECTS", (3, 6))
    monkeypatch.setattr(coverage, "N_POPULATION", 100)
    monkeypatch.setattr(sys, "argv", ["coverage", "--runs", "1"])
    coverage.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + 2 * 3)
    assert {len(row) for row in rows if len(row) > 1} == {7}
    assert [row[-1] == "- |" for row in rows if row[0].startswith("| accuracy")] == [True, False] * 2


def test_the_expanded_interval_holds_where_the_percentile_interval_does_not():
    truth = coverage.true_figures("normal")
    covered = coverage.coverage("normal", 10, 200, truth, ["percentile", "expanded", "t"])
    for of_figure in covered.values():
        percentile, expanded, student = (of_figure[method][0] for method in ("percentile", "expanded", "t"))
        assert percentile < 93 <= expanded
        assert student == pytest.approx(expanded, abs=2)
