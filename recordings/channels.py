"""Find the channel that a user asks for among the labels of a recording."""

from collections.abc import Iterator, Mapping, Sequence

from utils.errors import UserError


def find_channel(
    labels: Sequence[str], name: str, source: str, aliases: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Find the label of a channel.

    The name itself is preferred to an alias, an alias to a label that differs in case and spaces only, and that to a
    label that differs in a leading `EEG` as well.

    Parameters
    ----------
    labels : sequence of str
        Labels of the channels in the file.
    name : str
        A label, or a key of `aliases`.
    source : str
        Name of the file, for messages.
    aliases : mapping of str to sequence of str, optional
        Other labels of a channel in a data set; case makes no difference.

    Raises
    ------
    UserError
        There is no such channel (the message lists the channels of the file), or more than one.
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

    Parameters
    ----------
    labels : sequence of str
        Labels of the channels in the file.
    name : str
        Name of a channel. If there is none of this name, it may be two channels with a minus between them:
        `EEG Fpz-Cz` is `EEG Fpz` or `Fpz` minus `EEG Cz` or `Cz`.
    reference : str or None
        Name of the channel to subtract.
    source : str
        Name of the file, for messages.

    Returns
    -------
    tuple of one or two str
        Label of the channel, and of the channel to subtract from it.

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
    """List the labels that match a name best: several if they match it equally well."""
    folded_aliases = {alias.casefold() for alias in aliases}
    rules = (
        lambda label: label == name,
        lambda label: label.casefold() in folded_aliases,
        lambda label: _folded(label) == _folded(name),
        lambda label: _bare(label) == _bare(name) != "",
    )
    return next((matches for rule in rules if (matches := [label for label in labels if rule(label)])), [])


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Split a name at each of its minus signs in turn."""
    for position, letter in enumerate(name):
        if letter == "-" and name[:position].strip() and name[position + 1 :].strip():
            yield name[:position], name[position + 1 :]


def _folded(name: str) -> str:
    """Put a name in lower case, without spaces."""
    return "".join(name.casefold().split())


def _bare(name: str) -> str:
    """Put a name in lower case, without spaces and without a leading EEG."""
    return _folded(name).removeprefix("eeg")
