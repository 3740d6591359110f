"""Find the channel that a user asks for among the labels of a recording."""

import re
from collections.abc import Mapping, Sequence

from utils.errors import UserError


def find_channel(
    labels: Sequence[str], name: str, source: str, aliases: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Find the label of the channel `name` in the file `source`.

    The name itself is preferred to an alias (another label of the channel in a data set), an alias to a label that
    differs in case and spaces only, and that to a label that differs in a leading `EEG` as well.

    Raises
    ------
    UserError
        There is no such channel, or more than one.
    """
    names = (aliases or {}).get(name, ())
    matches = _matches(labels, name, names)
    if not matches:
        also = f" (nor {', '.join(map(repr, names))})" if names else ""
        available = ", ".join(map(repr, labels)) or "none at all"
        raise UserError(f"{source}: no channel {name!r}{also}. The file has {available}. Pass one with --select_ch.")
    if len(matches) > 1:
        raise UserError(
            f"{source}: {len(matches)} channels go by {name!r} ({', '.join(map(repr, matches))}). "
            "Give them different labels, or pass another with --select_ch."
        )
    return matches[0]


def find_derivation(labels: Sequence[str], name: str, reference: str | None, source: str) -> tuple[str, ...]:
    """Find the label of a channel, or the labels of the two channels whose difference is asked for.

    If there is no channel of this name, it may be two channels with a minus between them: `EEG Fpz-Cz` is `EEG Fpz` or
    `Fpz` minus `EEG Cz` or `Cz`.

    Returns
    -------
    tuple of one or two str
        Label of the channel, and of the channel to subtract from it.
    """
    if reference:
        return find_channel(labels, name, source), find_channel(labels, reference, source)
    if not _matches(labels, name):
        for minus in re.finditer("-", name):
            left, right = _matches(labels, name[: minus.start()]), _matches(labels, name[minus.end() :])
            if len(left) == len(right) == 1 and left != right:
                return left[0], right[0]
    return (find_channel(labels, name, source),)


def _matches(labels: Sequence[str], name: str, aliases: Sequence[str] = ()) -> list[str]:
    """List the labels that match a name best: several if they match it equally well."""
    folded, bare = _folded(name), _folded(name).removeprefix("eeg")
    folded_aliases = {alias.casefold() for alias in aliases}
    rules = (
        lambda label: label == name,
        lambda label: label.casefold() in folded_aliases,
        lambda label: _folded(label) == folded,
        lambda label: _folded(label).removeprefix("eeg") == bare != "",
    )
    return next((matches for rule in rules if (matches := [label for label in labels if rule(label)])), [])


def _folded(name: str) -> str:
    """Put a name in lower case, without spaces."""
    return "".join(name.casefold().split())
