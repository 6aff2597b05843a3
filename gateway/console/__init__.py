"""The console: what is flowing, one message's life, the dead letters, the patients' records.

``router.console_routers`` gives the routes. Nothing is imported here, so that the command
line may use a module of words without loading the web server.
"""
