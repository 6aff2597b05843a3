"""Mapping files (YAML) that ship with the gateway. Data only."""
