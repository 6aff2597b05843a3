"""Tests of what people and programs meet: console, REST, command line."""
