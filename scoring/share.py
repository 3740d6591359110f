"""Write the networks of an experiment into one file to hand on, or show what such a file holds.

python -m scoring.share saved/Exp1 --output attnsleep_edf20.safetensors
python -m scoring.share --show attnsleep_edf20.safetensors
"""

import argparse
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.environment import require_packages

require_packages()

from scoring.fetching import fetched, sha256_of, source_of
from utils.errors import UserError
from utils.files import is_printable, name_problem, write_text
from utils.logs import never_fail_to_print
from utils.plural import number_of
from utils.stages import STAGE_NAMES

if TYPE_CHECKING:
    from utils.shared_networks import SharedFold

LICENCE = "MIT"
"""Licence of the code, and so of the networks that it defines."""

_PACKAGES = ("torch", "numpy", "scipy", "safetensors")
_SETS = {"initial": "before, its initial weights learned from"}
_FIGURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "kappa": "Cohen's kappa"}


def main() -> int:
    """Write or show a file; return the exit code."""
    never_fail_to_print()
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m scoring.share", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("experiment", type=Path, nargs="?", help="folder of an experiment or of a fold, such as saved/Exp1")
    add("--output", type=Path, metavar="FILE.safetensors", help="the file to write, and README.md beside it")
    add("--note", default="", metavar="TEXT", help="a line of your own for the card: data, place, whom to ask")
    add("--overwrite", action="store_true", help="replace a file that is there, and its card")
    add("--show", type=source_of, metavar="FILE", help="print the card of a file, which may be an address")
    arguments = parser.parse_args()
    if (arguments.show is None) == (arguments.experiment is None or arguments.output is None):
        parser.error("name an experiment and --output, or --show alone")
    try:
        if arguments.show is not None:
            from utils.shared_networks import read_shared  # torch, for which --help does not wait

            path = fetched(arguments.show)
            card = read_shared(path)[1]
            try:
                print(card_text(card, path.name), end="")
            except (LookupError, TypeError, ValueError, AttributeError) as error:  # the card may be a stranger's
                raise UserError(f"{path}: its card cannot be shown ({error!r}).") from error
        else:
            share(arguments.experiment, arguments.output, arguments.note, arguments.overwrite)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def share(experiment: Path, output: Path, note: str = "", overwrite: bool = False) -> None:
    """Write the networks of an experiment, or of one fold, into a file, and its card into README.md beside it.

    Raises
    ------
    UserError
        The experiment cannot be scored with, an output is there already, or `note` is more than a line.
    """
    from scoring.networks import load_networks
    from utils.shared_networks import SUFFIX, write_shared

    if output.suffix != SUFFIX or name_problem(output):
        raise UserError(f"{str(output)!r}: the file's name is to end in {SUFFIX}, without odd characters.")
    if not is_printable(note):
        raise UserError("--note is one line, without control characters.")
    if not experiment.is_dir():
        raise UserError(f"{experiment}: no folder of an experiment or a fold, such as saved/Exp1.")
    readme = output.with_name("README.md")
    _refuse_others(output, readme, overwrite)
    networks = load_networks([experiment])
    folds = [_read_fold(Path(member.checkpoint["path"])) for member in networks.members]
    of_all = networks.experiments[0] if networks.experiments else {}
    config = folds[0].about["config"]
    card = {
        "name": config.get("name") or experiment.resolve().name,
        "arch": config["arch"],
        "protocol": config.get("evaluation", {}).get("protocol"),
        "report": _read_report(experiment),
        "missing_folds": of_all.get("missing_folds", []),
        "unfinished_folds": of_all.get("unfinished_folds", []),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in _PACKAGES},
        "licence": LICENCE,
        "note": note,
    }
    card = write_shared(output, folds, card)
    write_text(readme, card_text(card, output.name))
    for line in networks.notes:
        print(line)
    size = f"{output.stat().st_size / 1e6:.1f} MB"
    print(f"{output}: {number_of(len(folds), 'fold')}, {size}, sha256={sha256_of(output)}\n{readme}: its card")


def _refuse_others(output: Path, readme: Path, overwrite: bool) -> None:
    """Refuse to replace a file without `overwrite`, and a README.md that is not the card of this file ever."""
    if readme.exists():
        text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
        if _mark(output.name) not in text:
            raise UserError(
                f"{readme}: there already, and not the card of {output.name}. Pass an --output in a folder of its own."
            )
    existing = [str(path) for path in (output, readme) if path.exists()]
    if existing and not overwrite:
        raise UserError(f"{', '.join(existing)}: there already. Pass --overwrite to replace, or another --output.")


def _read_fold(path: Path) -> "SharedFold":
    """Read the networks of a fold as they are shared: without folders of this machine."""
    from utils.checkpoint import BEST, load_weights
    from utils.experiment import CONTEXT
    from utils.shared_networks import SharedFold

    def read(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        weights, about = load_weights(checkpoint)
        if about is None or type(about.get("fold")) is not int:
            raise UserError(
                f"{checkpoint}: does not say which fold it is of. Share networks that this project trained."
            )
        config = dict(about["config"])
        if isinstance(trainer := config.get("trainer"), dict):
            config["trainer"] = {key: value for key, value in trainer.items() if key != "save_dir"}
        return dict(weights), about | {"config": config, "data": _recordings(checkpoint, about)}

    night_path = path.parent / CONTEXT / BEST
    return SharedFold(*read(path), read(night_path) if night_path.is_file() else None)


def _recordings(checkpoint: Path, about: Mapping[str, Any]) -> dict[str, dict[str, str]] | None:
    """List the recordings of a fold with their checksums; None if they are not known."""
    from utils.training_use import read_training_sets

    training_sets = read_training_sets(checkpoint, about)
    return training_sets.sets if training_sets else None


def _read_report(experiment: Path) -> dict[str, Any] | None:
    """Take the figures of the experiment's report with the most folds; None if there is none."""
    reports = []
    for path in experiment.glob("fold_*/report.json"):
        try:
            reports.append(_figures(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read. Write it again: python -m report {experiment}") from error
    return max(reports, key=lambda report: len(report["folds"]["finished"]), default=None)


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Take the figures of a report that go into the card."""
    kept = ("label", "n", *report["metrics"], "intervals")
    return {
        "folds": report["folds"],
        "n_subjects": report["intervals"]["n_subjects"],
        "n_recordings": len(report["per_recording"]),
        "protocols": {
            name: {key: figures[key] for key in kept}
            | {"f1": {stage: of_stage["f1"] for stage, of_stage in figures["per_class"].items()}}
            for name, figures in report["protocols"].items()
        },
    }


def card_text(card: Mapping[str, Any], file_name: str) -> str:
    """Write the card of a shared file as a model card in Markdown."""
    folds, arch = card["folds"], card["arch"]
    arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in arch.get("args", {}).items())
    front = {"license": str(card["licence"]).lower(), "library_name": "pytorch"}
    lines = ["---", *(f"{key}: {value}" for key, value in front.items())]
    lines += ["tags:", *(f"- {tag}" for tag in ("sleep-staging", "eeg", "attnsleep"))]
    lines += ["metrics:", *(f"- {metric}" for metric in ("accuracy", "f1")), "---", _mark(file_name), ""]
    lines += [f"# {card['name']}", "", f"Sleep stages ({', '.join(STAGE_NAMES)}) from one EEG channel, every 30 s."]
    lines += [str(card["note"])] if card["note"] else []
    before, after = card.get("context", (0, 0))
    with_night = sum(fold["night_context"] is not None for fold in folds)
    lines += [
        "",
        "| | |",
        "|---|---|",
        f"| Network | {arch['type']}({arguments}) |",
        f"| Signal | {card['channel'] or 'several channels'}, {card['fs']:g} Hz, in microvolts ({card['units']}) |",
        f"| Context | {before} sleep epochs before, {after} after; {with_night} of {len(folds)} with the whole night |",
        f"| Folds | {', '.join(str(fold['fold']) for fold in folds)} |",
        f"| Licence | {card['licence']} |",
        f"| Versions | {', '.join(f'{name} {number}' for name, number in card['versions'].items())} |",
    ]
    for key, what in (("missing_folds", "missing"), ("unfinished_folds", "not finished")):
        lines += [f"| Folds {what} | {', '.join(map(str, card[key]))} |"] if card[key] else []
    lines += ["", "## Figures", "", *_figure_lines(card)]
    lines += ["", "## Use", "", "```bash", f"python predict.py --checkpoint {file_name} night.edf", "```"]
    lines += ["", "## Recordings", "", *_recording_lines(folds)]
    config = json.dumps(card["config"], indent=2, ensure_ascii=False)
    lines += ["", "## Resolved configuration", "", "```json", *config.splitlines(), "```"]
    text = "\n".join(lines) + "\n"
    return "".join(letter if letter == "\n" or is_printable(letter) else "?" for letter in text)


def _figure_lines(card: Mapping[str, Any]) -> list[str]:
    """Write the figures of the report as a table, a row for each protocol."""
    report = card["report"]
    if report is None:
        return ["No report was written of this experiment."]
    lines = [
        f"Protocol `{card['protocol']}`. {number_of(report['n_recordings'], 'recording')} of "
        f"{number_of(report['n_subjects'], 'subject')}, {len(report['folds']['finished'])} test folds pooled; "
        "in brackets 95 % intervals by bootstrap over subjects.",
        "",
        f"| Protocol | {' | '.join(_FIGURES.values())} | {' | '.join(f'F1 {stage}' for stage in STAGE_NAMES)} |",
        f"|---|{'---|' * (len(_FIGURES) + len(STAGE_NAMES))}",
    ]
    for name, figures in report["protocols"].items():
        cells = [_with_interval(figures.get(key), figures["intervals"].get(key)) for key in _FIGURES]
        cells += [_with_interval(figures["f1"][stage], None) for stage in STAGE_NAMES]
        lines.append(f"| {name}: {figures['label']} | {' | '.join(cells)} |")
    return lines


def _with_interval(value: float | None, interval: Any) -> str:
    """Write a fraction from 0 to 1, and its interval if there is one."""
    text = "-" if value is None else f"{value:.3f}"
    return f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else text


def _recording_lines(folds: list[dict[str, Any]]) -> list[str]:
    """List what each fold and its initial weights trained, selected and tested on; the checksums are in the file."""
    lines = []
    for fold in folds:
        data = fold.get("data") or {}
        known = ("train", "valid", "test", "initial")
        sets = (f"{_SETS.get(which, which)} {', '.join(data[which])}" for which in known if data.get(which))
        night = ", with night context" if fold["night_context"] else ""
        lines.append(
            f"- Fold {fold['fold']}, training epoch {fold['train_epoch']}{night}: " + ("; ".join(sets) or "not known")
        )
    return lines


def _mark(file_name: str) -> str:
    """Return the line that makes a README.md the card of a file."""
    return f"<!-- Card of {file_name}, written by scoring.share -->"


if __name__ == "__main__":
    sys.exit(main())
