from itertools import product

import numpy as np
import pytest

from scoring.scorers import agreement, compare, majority, soft_agreement, table

W, N1, N2, N3, REM = range(5)


def made_scorers(errors, n=200_000, seed=0):
    """Hypnograms of scorers who are wrong at these rates, each by itself, with each wrong stage as often."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, n)
    return np.array([(truth + (rng.random(n) < error) * rng.integers(1, 5, n)) % 5 for error in errors])


def expected_accuracy(scorer, errors):
    """Probability that a scorer gives the stage of the others' majority, summed over all that five people can say.

    The true stage is 0: all stages are alike here. The others rank by their errors.
    """
    others = sorted((other for other in range(len(errors)) if other != scorer), key=lambda other: errors[other])
    total = 0.0
    for said in product(range(5), repeat=len(others)):
        chance = 1.0
        for other, stage in zip(others, said, strict=True):
            chance *= 1 - errors[other] if stage == 0 else errors[other] / 4
        winner = next(stage for stage in said if said.count(stage) == max(map(said.count, said)))
        total += chance * (1 - errors[scorer] if winner == 0 else errors[scorer] / 4)
    return total


@pytest.mark.parametrize("errors", [(0.20, 0.12, 0.16, 0.10, 0.22), (0.5, 0.3, 0.4, 0.35, 0.45)])
def test_each_of_five_scorers_agrees_with_the_majority_of_the_others_as_often_as_probability_says(errors):
    hypnograms = made_scorers(errors)
    compared = compare(list("abcde"), hypnograms, hypnograms[0])
    found = [scorer["others"]["accuracy"] for scorer in compared]
    assert found == pytest.approx([expected_accuracy(scorer, errors) for scorer in range(5)], abs=0.004)
    soft = [scorer["soft_agreement"] for scorer in compared]
    assert np.argsort(soft).tolist() == np.argsort(errors)[::-1].tolist()
    assert [scorer["name"] for scorer in compared] == list("abcde")
    assert compared[0]["network"]["accuracy"] == 1


def test_soft_agreement_counts_a_stage_by_how_many_others_gave_it_beside_the_one_that_most_gave():
    hypnograms = np.array([[W, N2, N1, N3], [W, N2, N2, N3], [W, N3, N2, -1], [W, REM, N2, -1]])
    # of each sleep epoch: all agree; two others gave N2 once, N3 once, REM once; three against one; two scorers alone
    first = [1, 1, 0, 1]
    second = [1, 1, 1, 1]
    third = [1, 0, 1]
    assert soft_agreement(hypnograms).tolist() == pytest.approx(
        [np.mean(first), np.mean(second), np.mean(third), np.mean(third)]
    )
    assert soft_agreement(np.array([[W, N1], [W, -1], [-1, -1]])).tolist() == [1, 1, 0]
    assert soft_agreement(np.array([[W], [W], [W], [N1], [N1]]))[3] == pytest.approx(1 / 3)


def test_the_best_scorer_decides_a_tie_and_the_next_one_where_the_best_gave_neither_stage():
    agreed = [W, N1, N2, N3, REM] * 20
    best, second, third, fourth, fifth = (np.array(agreed) for _ in range(5))
    for scorer, wrong in ((second, slice(5)), (third, slice(5, 15)), (fourth, slice(15, 35)), (fifth, slice(35, 75))):
        scorer[wrong] = (scorer[wrong] + 1) % 5
    shuffled = np.array([fifth, third, best, fourth, second])
    assert np.argsort(-soft_agreement(shuffled)).tolist() == [2, 4, 1, 3, 0]
    ties = np.array([[N2, W, N3], [N1, N2, N3], [N1, REM, N2], [N2, N2, REM], [W, W, REM]])
    assert majority(np.hstack([shuffled, ties]))[-3:].tolist() == [N1, W, REM]
    assert majority(shuffled).tolist() == agreed


def test_who_gives_no_stage_does_not_vote():
    hypnograms = np.array([[W, -1, -1, N2], [-1, -1, N3, N2], [W, -1, -1, N1]])
    assert majority(hypnograms).tolist() == [W, -1, N3, N2]


def test_of_two_scorers_the_first_decides_and_one_is_the_majority():
    hypnograms = np.array([[W, N1, -1], [N2, N1, REM]])
    assert majority(hypnograms).tolist() == [W, N1, REM]
    assert majority(hypnograms[:1]).tolist() == [W, N1, -1]
    (first, second) = compare(["a", "b"], hypnograms, np.array([W, N1, REM]))
    assert first["others"]["n"] == second["others"]["n"] == 2
    assert (first["network"]["accuracy"], second["network"]["accuracy"]) == (1, 2 / 3)


def test_the_table_holds_all_figures_side_by_side():
    hypnograms = np.array([[W, N1, N2, N2], [W, N2, N2, N2], [-1, -1, -1, -1]])
    stages = np.array([W, N1, N1, N2])
    scorers = compare(["a.csv", "b.csv", "c.csv"], hypnograms, stages)
    lines = table({"scorers": scorers, "agreement": agreement(majority(hypnograms), stages)}).splitlines()
    assert lines[0].split() == "Agreement n accuracy macro F1 kappa MGm F1 W F1 N1 F1 N2 F1 N3 F1 REM".split()
    assert len(lines) == 8
    assert lines[2].startswith("network, with a.csv ")
    assert lines[2].split()[3:7] == ["4", "75.0", "%", "77.8"]
    assert lines[2].split()[-2:] == ["-", "-"]
    assert lines[4].startswith("network, with c.csv")
    assert lines[4].endswith("  no sleep epoch with a stage in both")
    assert {len(line) for line in lines if line.endswith("-")} == {len(lines[0])}
    assert table({"agreement": None}) == ""
