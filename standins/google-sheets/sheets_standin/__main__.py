"""The command ``sheets-standin``."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from sheets_standin.admin import TabSpec
from sheets_standin.endpoint import SheetsEndpoint
from sheets_standin.errors import StandinError
from sheets_standin.server import serve as run

FOLDER = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".sheets-standin"),
    show_default=True,
    help="Where the spreadsheets and the key are kept. They stay when the server stops.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    r"""A stand-in for the Google Sheets API, without a Google account.

    \b
    sheets-standin serve                              runs it, until Ctrl-C or SIGTERM
    sheets-standin new "NPS targets" --csv x.csv      makes a spreadsheet in the running one
    """


@cli.command()
@FOLDER
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Where it listens, on 127.0.0.1 alone; 0 means any free port. "
    "[default: 18080, or another where that is taken]",
)
@click.option(
    "--url",
    metavar="URL",
    help="What clients call it, such as http://sheets:18080, where they are in other containers. "
    "Then it listens on all addresses, and whoever reaches it may read the spreadsheets.",
)
def serve(folder: Path, port: int | None, url: str | None) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Once it is ready it says how to connect; programs read the same from endpoint.json in its
    folder. A browser shows the spreadsheets.
    """
    run(folder, port, lambda endpoint: _say(_how_to_connect(endpoint)), url)


@cli.command()
@FOLDER
@click.argument("title")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    help="A file of values, in UTF-8; each is taken as if it was typed into a cell.",
)
@click.option("--tab", default="Sheet1", show_default=True, help="The title of its tab.")
@click.option("--share", metavar="EMAIL", help="Who may write. [default: the service account]")
def new(folder: Path, title: str, csv_file: Path | None, tab: str, share: str | None) -> None:
    """Make a spreadsheet in the running server and print its URL."""
    endpoint = SheetsEndpoint.read(folder)
    admin = endpoint.admin()
    spec = TabSpec.from_csv(csv_file, tab) if csv_file else TabSpec(tab)
    _say(admin.url(admin.create(title, [spec], {share or endpoint.email: "writer"})))


@cli.command("list")
@FOLDER
def list_(folder: Path) -> None:
    """List the spreadsheets of the running server: URL and title."""
    admin = SheetsEndpoint.read(folder).admin()
    for entry in admin.spreadsheets():
        _say(f"{admin.url(entry.spreadsheet_id)}  {entry.title}")


def _how_to_connect(endpoint: SheetsEndpoint) -> str:
    folder = Path(endpoint.key_file).parent
    return f"""\
URL        {endpoint.url}   the API, in the place of https://sheets.googleapis.com; a browser \
shows the spreadsheets there
key        {endpoint.key_file}
account    {endpoint.email}   share spreadsheets with it

gspread    from sheets_standin import SheetsEndpoint, gspread_client
           client = gspread_client.connect(SheetsEndpoint.read(Path("{folder}")))
new sheet  sheets-standin new TITLE --folder {folder}

Ready. Ctrl-C stops it."""


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


def main() -> None:
    """Run the command; a failure ends in a message, not in a stack trace."""
    # uvicorn ends in good order on a signal, and then raises the signal again.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        cli()
    except StandinError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
