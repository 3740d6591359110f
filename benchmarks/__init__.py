"""Measurements of this project beside a textbook implementation."""
