"""Tests against the real thing: databases, brokers, peers, browsers."""
