"""The workbench of those who write mappings: functions over bytes, a library and a context.

Nothing here prints, stores or needs a running gateway; the commands of
``ecluse mapping`` and the console's pages show what these functions return.
"""
