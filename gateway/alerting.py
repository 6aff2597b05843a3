"""Who is told of dead letters, made of the settings."""

from __future__ import annotations

from datetime import timedelta

from deadletter.alerts import Alerts, Channel
from deadletter.channels import Mail, Webhook
from gateway.journal.journal import Journal
from gateway.settings import Settings


def make_alerts(settings: Settings, journal: Journal) -> Alerts:
    """Who is told of dead letters."""
    told = settings.alerts
    console = told.console_url.rstrip("/")
    return Alerts(
        journal,
        channels(settings),
        thresholds=told.thresholds,
        calm=timedelta(seconds=told.calm_seconds),
        link=lambda group: f"{console}/dead/groups/{group}" if console else "",
    )


def channels(settings: Settings) -> list[Channel]:
    """The ways to people that are configured."""
    told = settings.alerts
    found: list[Channel] = [
        Webhook(name=each.name, url=each.url, secret_file=each.secret_file, ca_file=each.ca_file)
        for each in told.webhooks
    ]
    mail = told.mail
    if mail is not None:
        found.append(
            Mail(
                name="mail", host=mail.host, port=mail.port, sender=mail.sender,
                to=tuple(mail.to), security=mail.security, user=mail.user,
                password_file=mail.password_file, ca_file=mail.ca_file,
            )
        )  # fmt: skip
    return found
