"""Prepared recordings: into folds by subject, and into batches."""
