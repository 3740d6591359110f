"""Counts in words."""


def number_of(n: int, noun: str) -> str:
    """Write `1 subject`, or `1,234 subjects`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
