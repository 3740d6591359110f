"""The report of an experiment: figures, tables, page, and the comparison of experiments."""
