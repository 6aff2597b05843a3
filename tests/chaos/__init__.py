"""Faults at random, under load, and a ledger of the senders' that the record is held against.

``make chaos`` runs it for long (``python -m tests.chaos --help``); tests/acceptance/test_chaos.py for a
short time. Whatever is drawn at random follows from the seed, which is printed first.
"""
