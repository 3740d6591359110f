"""Recordings in the files of their data sets (EDF, EDF+, XML) to npz."""
