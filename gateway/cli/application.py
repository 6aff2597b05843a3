"""The command tree, and how an error becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gateway.cli.backup import backup, restore
from gateway.cli.cda import app as cda
from gateway.cli.configuration import app as config
from gateway.cli.dead import app as dead
from gateway.cli.dead_jobs import app as dead_jobs
from gateway.cli.deployment import deploy, export, rollback, versions
from gateway.cli.desk import COMMANDS as DESK_COMMANDS
from gateway.cli.dicom import app as dicom
from gateway.cli.doctor import doctor
from gateway.cli.hl7 import app as hl7
from gateway.cli.mapping import app as mapping
from gateway.cli.mapping_import import import_  # noqa: F401 - it registers
from gateway.cli.message import app as message
from gateway.cli.narrowing import narrowed
from gateway.cli.output import Code, say
from gateway.cli.purge import purge
from gateway.cli.record import app as record
from gateway.cli.reloading import reload
from gateway.cli.reprocessing import app as reprocessing
from gateway.cli.reprocessing import reprocess
from gateway.cli.running import demo, run
from gateway.cli.sending import send
from gateway.cli.standing import drain, pause, resume
from gateway.cli.status import status
from gateway.cli.verify import verify

app = typer.Typer(
    name="ecluse",
    help="An open integration gateway: HL7 v2, DICOM and CDA to the patient's shared record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from gateway.release import version

        typer.echo(f"ecluse {version()}")
        raise typer.Exit


@app.callback()
def _ecluse(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """An open integration gateway: HL7 v2, DICOM and CDA to the patient's shared record."""


app.command("run")(run)
app.command("reload")(reload)
app.command("demo")(demo)
app.command("send")(send)
app.add_typer(message, name="message")
dead.add_typer(dead_jobs, name="jobs")
for _name, _command in DESK_COMMANDS.items():
    dead.command(_name)(_command)
app.add_typer(dead, name="dead")
app.add_typer(record, name="record")
mapping.command("deploy")(deploy)
mapping.command("rollback")(rollback)
mapping.command("versions")(versions)
mapping.command("export")(export)
mapping.command("reprocess")(reprocess)
mapping.add_typer(reprocessing, name="reprocessing")
app.add_typer(mapping, name="mapping")
app.add_typer(hl7, name="hl7")
app.add_typer(cda, name="cda")
app.add_typer(dicom, name="dicom")
app.command("status")(status)
app.command("verify")(verify)
app.command("purge")(purge)
app.command("backup")(backup)
app.command("restore")(restore)
app.command("pause")(pause)
app.command("drain")(drain)
app.command("resume")(resume)
app.command("doctor")(doctor)
app.add_typer(config, name="config")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit code. ``arguments`` None takes those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        narrowed(app, given)(args=given, prog_name="ecluse")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away; nothing is wrong, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Code.DONE
    except Exception as error:
        code = _known(error)
        if code is None:
            raise
        return code
    return Code.DONE


def _known(error: Exception) -> Code | None:
    """The exit code of an error that needs no traceback, after saying what is wrong."""
    from adapters.cda.validation.pack import PackUnusable
    from adapters.dicom.rule_files import RuleError
    from adapters.hl7.profile_files import ProfileError
    from adapters.tls import TlsUnusable
    from gateway.api.security import TokenUnusable
    from gateway.deployment.deploying import CannotDeploy
    from gateway.deployment.files import NotASet
    from gateway.journal.faults import JournalInUse, JournalUnavailable
    from gateway.mapping.findings import MappingError
    from gateway.settings_file import ConfigurationError

    match error:
        case ConfigurationError():
            for problem in error.problems:
                say(f"ecluse: {problem}")
            return Code.USAGE
        case MappingError():
            for finding in error.findings:
                say(str(finding))
            say("ecluse: the mappings cannot be used; ecluse mapping check looks at them alone")
            return Code.USAGE
        case ProfileError():
            for problem in error.problems:
                say(problem)
            say("ecluse: the profile cannot be used")
            return Code.USAGE
        case RuleError():
            for problem in error.problems:
                say(problem)
            say("ecluse: the rules of a destination cannot be used")
            return Code.USAGE
        case TokenUnusable() | TlsUnusable() | PackUnusable():
            say(f"ecluse: {error}")
            return Code.USAGE
        case CannotDeploy() | NotASet():
            say(f"ecluse: {error}")
            return Code.USAGE
        case JournalInUse():
            say(f"ecluse: {error}; stop it first, or let it do this through its HTTP address")
            return Code.UNREACHABLE
        case JournalUnavailable():
            say(f"ecluse: the journal cannot be reached: {error}")
            return Code.UNREACHABLE
    return None
