"""Puts this folder on the path of every test, for the helpers in it."""
