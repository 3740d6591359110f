"""The five sleep stages and the 30-s unit in which they are scored."""

STAGE_NAMES = ("W", "N1", "N2", "N3", "REM")
"""Names of the stages 0 to 4, in the order of every array, table and report."""

N_STAGES = len(STAGE_NAMES)

W, N1, N2, N3, REM = range(N_STAGES)

SLEEP_EPOCH_S = 30
"""Seconds in one sleep epoch."""
