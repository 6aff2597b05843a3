"""The gateway: model, ports, journal, mapping engine, stages and edges."""
