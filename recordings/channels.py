"""The channel that a user means, among the labels of a file."""

from collections.abc import Iterator, Mapping, Sequence

from utils.errors import UserError


def find_channel(
    labels: Sequence[str], name: str, source: str, aliases: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Find the label of the channel a user asked for.

    Parameters
    ----------
    labels : sequence of str
        Of the channels that the file has.
    name : str
        A label, or a key of `aliases`. An exact label goes before an alias, that before a label which differs in case
        and spaces, and that before one which lacks, or has, the word EEG in front.
    source : str
        Name of the file, for messages.
    aliases : mapping of str to sequence of str, optional
        Labels under which a data set stores a channel, in upper or lower case.

    Returns
    -------
    str
        The label.

    Raises
    ------
    UserError
        There is no such channel (shows those that are), or more than one.
    """
    found = _matches(labels, name, (aliases or {}).get(name, ()))
    if not found:
        known_as = f" (nor {', '.join(map(repr, aliases[name]))})" if aliases and aliases.get(name) else ""
        there = ", ".join(map(repr, labels)) or "none at all"
        raise UserError(f"{source}: no channel {name!r}{known_as}. The file has {there}. Pass one with --select_ch.")
    if len(found) > 1:
        raise UserError(
            f"{source}: {len(found)} channels go by {name!r} ({', '.join(map(repr, found))}). "
            "Give them different labels, or pass another with --select_ch."
        )
    return found[0]


def find_derivation(labels: Sequence[str], name: str, reference: str | None, source: str) -> tuple[str, ...]:
    """Find the channel a user asked for, or the two whose difference it is.

    Parameters
    ----------
    labels : sequence of str
    name : str
        Of a channel; or of two and a minus between them, `EEG Fpz-Cz` for `EEG Fpz` minus `EEG Cz` or `Cz`, unless one
        channel has that name.
    reference : str or None
        Name of a channel to subtract.
    source : str
        Name of the file, for messages.

    Returns
    -------
    tuple of one or two str
        The label; or that of the channel, and of the one to subtract from it.

    Raises
    ------
    UserError
        There is no such channel, or more than one.
    """
    if reference:
        return find_channel(labels, name, source), find_channel(labels, reference, source)
    if not _matches(labels, name):
        for left, right in _splits(name):
            sides = _matches(labels, left), _matches(labels, right)
            if all(len(side) == 1 for side in sides) and sides[0] != sides[1]:
                return sides[0][0], sides[1][0]
    return (find_channel(labels, name, source),)


def _matches(labels: Sequence[str], name: str, aliases: Sequence[str] = ()) -> list[str]:
    """List the labels that match best, those that match as well together."""
    others = {alias.casefold() for alias in aliases}
    ways = (
        lambda label: label == name,
        lambda label: label.casefold() in others,
        lambda label: _folded(label) == _folded(name),
        lambda label: _bare(label) == _bare(name) != "",
    )
    return next((found for found in ([label for label in labels if way(label)] for way in ways) if found), [])


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield a name's two sides at each minus."""
    for position, letter in enumerate(name):
        if letter == "-" and name[:position].strip() and name[position + 1 :].strip():
            yield name[:position], name[position + 1 :]


def _folded(name: str) -> str:
    """Name without case and spaces."""
    return "".join(name.casefold().split())


def _bare(name: str) -> str:
    """Name without case, spaces, and the word EEG in front."""
    return _folded(name).removeprefix("eeg")
