"""A night's files: one channel in microvolts, and the stages that scorers gave it."""
