"""Simulate how often 95 % intervals over subjects hold: in how many of 100 runs they contain the true figure.

python -m benchmarks.coverage [--runs N] [--only expanded]

Prints the tables of docs/intervals.md. 400 runs take some minutes and tell a coverage to within 2 %, 10,000 to within
0.5 %. `--only` a method is much faster than all.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.stats import norm, t

from model.metric import accuracy, evaluate, macro_f1
from report.statistics import draw, interval
from utils.arguments import positive
from utils.stages import N_STAGES

N_SUBJECTS = (2, 3, 4, 5, 6, 8, 10, 20, 40)
STAGE_SHARES = np.array([0.2, 0.08, 0.44, 0.13, 0.15])
DIFFICULTY = np.array([0.6, 2.6, 0.8, 1, 1])  # errors of each stage, relative to the mean: N1 is hard
N_POPULATION = 400_000  # subjects that give the true figures

Statistic = Callable[[np.ndarray], np.ndarray]
"""A figure of subjects: maps how often each is drawn, (..., n), to figures of shape (...)."""


def error_rates(rng: np.random.Generator, shape: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the error rates of `n` subjects, as fractions, by two networks of which the second is a little better.

    The spread over subjects is normal, or skewed (lognormal): a few subjects are far worse than the others.
    """
    if shape == "normal":
        first, gain = rng.normal(0.2, 0.06, n), rng.normal(0.02, 0.04, n)
    else:
        first, gain = rng.lognormal(np.log(0.15), 0.7, n), rng.lognormal(np.log(0.02), 1, n)
    return first.clip(0.02, 0.9), (first - gain).clip(0.02, 0.9)


def probabilities(errors: np.ndarray) -> np.ndarray:
    """Probability of each pair of true and predicted stage, (n, 5, 5), of subjects with these error rates, (n,)."""
    wrong = np.minimum(errors[:, None] * DIFFICULTY, 0.95)
    given_true = np.repeat(wrong[:, :, None] / (N_STAGES - 1), N_STAGES, axis=2)
    stages = np.arange(N_STAGES)
    given_true[:, stages, stages] = 1 - wrong
    return STAGE_SHARES[:, None] * given_true


def sample(rng: np.random.Generator, shape: str, n: int) -> dict[str, Statistic]:
    """Draw `n` subjects of 300 to 1000 sleep epochs; return the figures whose intervals are compared."""
    n_sleep_epochs = rng.integers(300, 1001, n)
    first, second = (
        rng.multinomial(n_sleep_epochs, probabilities(errors).reshape(n, -1)).reshape(n, N_STAGES, N_STAGES)
        for errors in error_rates(rng, shape, n)
    )
    differences = evaluate(accuracy, second) - evaluate(accuracy, first)
    return {
        "accuracy": lambda weights: evaluate(accuracy, np.tensordot(weights, first, 1)),
        "macro F1": lambda weights: evaluate(macro_f1, np.tensordot(weights, first, 1)),
        "difference": lambda weights: weights @ differences / weights.sum(-1),
    }


def true_figures(shape: str) -> dict[str, float]:
    """Compute the figures of the population."""
    first, second = error_rates(np.random.default_rng(0), shape, N_POPULATION)
    pooled = 1e9 * probabilities(first).mean(0)
    gain = evaluate(accuracy, probabilities(second)) - evaluate(accuracy, probabilities(first))
    return {
        "accuracy": evaluate(accuracy, pooled).item(),
        "macro F1": evaluate(macro_f1, pooled).item(),
        "difference": gain.mean().item(),
    }


def jackknife_error(statistic: Statistic, weights: np.ndarray) -> np.ndarray:
    """Estimate the standard error of a figure of resamples, (..., n): each draw is left out in turn."""
    n = weights.shape[-1]
    left_out = statistic((weights[..., None, :] - np.eye(n)).clip(0))
    mean = (weights * left_out).sum(-1, keepdims=True) / n
    return np.sqrt((n - 1) / n * (weights * (left_out - mean) ** 2).sum(-1))


def bca(statistic: Statistic, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Bias-corrected and accelerated interval (B. Efron, Better Bootstrap Confidence Intervals, JASA 1987)."""
    n = weights.shape[-1]
    figure, left_out = statistic(np.ones(n)), statistic(1 - np.eye(n))
    skew = left_out.mean() - left_out
    acceleration = (skew**3).sum() / (6 * (skew**2).sum() ** 1.5 + 1e-300)
    below = ((values < figure).mean() + (values <= figure).mean()) / 2
    bias = norm.ppf(below.clip(1e-4, 1 - 1e-4))
    z = bias + norm.ppf([0.025, 0.975])
    return np.quantile(values, norm.cdf(bias + z / (1 - acceleration * z)))


def bootstrap_t(statistic: Statistic, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Studentised interval, the standard error of each resample by the jackknife."""
    whole = np.ones(weights.shape[-1])
    figure, error, errors = statistic(whole), jackknife_error(statistic, whole), jackknife_error(statistic, weights)
    known = errors > 1e-9  # zero where one subject is drawn throughout
    return figure - error * np.quantile((values - figure)[known] / errors[known], [0.975, 0.025])


def percentile_interval(_: Statistic, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Cut 2.5 % of the resamples off at either end."""
    return np.quantile(values, [0.025, 0.975])


def expanded_percentile(_: Statistic, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compute the interval of the report."""
    return np.array(interval(values, weights.shape[-1]))


def student_t(statistic: Statistic, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Student's t interval with the standard error of the bootstrap."""
    n = weights.shape[-1]
    half = t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1)) * values.std()
    return statistic(np.ones(n)) + half * np.array([-1, 1])


METHODS: dict[str, Callable[[Statistic, np.ndarray, np.ndarray], np.ndarray]] = {
    "percentile": percentile_interval,
    "expanded": expanded_percentile,
    "t": student_t,
    "BCa": bca,
    "bootstrap-t": bootstrap_t,
}
"""Each maps a figure, resamples (how often each subject is drawn, (n_resamples, n)), and their figures to limits."""


def coverage(
    shape: str, n: int, runs: int, truth: Mapping[str, float], methods: Sequence[str]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Coverage and mean width, in percent, of the intervals of each figure by each method."""
    rng = np.random.default_rng(n)
    weights = np.stack([np.bincount(positions, minlength=n) for positions in draw(n)]).astype(float)
    limits: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in truth}
    for _ in range(runs):
        for name, statistic in sample(rng, shape, n).items():
            values = statistic(weights)
            for method in methods:
                if method != "bootstrap-t" or n > 3:  # below that, most resamples have no standard error
                    limits[name].setdefault(method, []).append(METHODS[method](statistic, weights, values))
    result: dict[str, dict[str, tuple[float, float]]] = {}
    for name, of_figure in limits.items():
        result[name] = {}
        for method, every in of_figure.items():
            low, high = np.array(every).T
            holds = (low <= truth[name]) & (truth[name] <= high)
            result[name][method] = 100 * holds.mean().item(), 100 * (high - low).mean().item()
    return result


def main() -> None:
    """Print a table for each shape of the spread over subjects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=positive, default=400, help="samples for each number of subjects")
    parser.add_argument("--only", choices=METHODS, nargs="+", default=list(METHODS), help="methods to compare")
    arguments = parser.parse_args()
    runs, methods = arguments.runs, arguments.only
    for shape in ("normal", "skewed"):
        print(f"\n{shape} spread: percent of {runs} intervals that hold (mean width in percentage points)\n")
        print("| figure | subjects |", " | ".join(methods), "|")
        print("| --- " * (2 + len(methods)) + "|")
        truth = true_figures(shape)
        for n in N_SUBJECTS:
            for name, of_figure in coverage(shape, n, runs, truth, methods).items():
                cells = ["{:.1f} ({:.1f})".format(*of_figure[m]) if m in of_figure else "-" for m in methods]
                print(f"| {name} | {n} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
