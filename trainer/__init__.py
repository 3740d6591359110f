"""Training and evaluation of AttnSleep, and the report on its folds."""
