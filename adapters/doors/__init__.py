"""The ways in for whole files: a watched folder and an HTTP body.

They know nothing of a format. An adapter says what a file holds
(:class:`adapters.doors.reception.Reception`) and gets both ways in.
"""
