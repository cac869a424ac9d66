"""Every error that the reader of its message can do something about.

    MillraceError
    ├── DeclarationError         what the dbt project declares does not make sense
    ├── ProjectError             the dbt project or its manifest cannot be read
    ├── SettingError             a setting of the environment is missing or invalid
    ├── TemplateError            a project cannot be made from the template, or updated by it
    ├── NotInstalled             a declared kind needs a package that is not installed
    ├── ConnectionNotFound       no credentials under that connection id
    ├── SourceError
    │   ├── SourceUnavailable ↻  the server is down
    │   ├── SourceBusy ↻         it suffers more than the table's `harm` allows
    │   ├── SourceRefused        it refuses our account
    │   ├── SourceFailed         the server gives an error that somebody has to fix
    │   ├── SourceMismatch       what is declared is not there: table, column, key
    │   ├── IntervalOpen ↻       transactions at the source can still write into the interval
    │   ├── RowsMissing ↻        not as many rows were read as the source counts
    │   ├── ValuesDiffer ↻       other values were read than the source has
    │   ├── TooFewRows           fewer rows came than the declaration allows
    │   └── ValueDoesNotFit      a value that its column's type cannot hold
    ├── SheetError
    │   ├── SheetUnavailable ↻   Google cannot be reached, or is busy
    │   ├── SheetRefused         it refuses our key
    │   ├── SpreadsheetNotFound  a spreadsheet is not there, or not shared with us
    │   ├── SheetChanged ↻       somebody changed a sheet while it was written
    │   ├── PublicationRefused   publishing would lose or overwrite what it must not
    │   └── CellNotPublished     a cell that does not show what the mart has now
    ├── LandingError
    │   ├── LandingUnavailable ↻ the bucket or folder cannot be reached
    │   ├── LandingRefused       it is missing, or refuses our account
    │   ├── ManifestNotFound     an attempt that was never committed
    │   ├── ManifestCorrupt      a manifest that is damaged, was changed, or is of another batch
    │   └── PartCorrupt          a Parquet part that is not what the manifest says
    ├── AlertError
    │   ├── AirflowUnavailable ↻ its API server does not answer
    │   ├── AirflowRefused       it refuses our account
    │   └── AlertNotSent ↻       a message did not arrive
    ├── MetadataError
    │   ├── MetadataUnavailable ↻ Airflow's metadata database is down or busy
    │   └── MetadataRefused      it refuses our account, or cannot be dumped by this program
    └── WarehouseError
        ├── WarehouseUnavailable ↻  the warehouse is down
        │   ├── WarehouseLocked     another process holds it
        │   └── WarehouseBusy       another transaction was in the way, or the connection broke
        ├── WarehouseRefused     it refuses our account
        ├── RelationNotFound     a mart or a column of it is not there
        ├── SchemaConflict       the batch does not fit the raw table
        ├── CountMismatch        loaded rows and the manifest differ
        └── TooManyDifferences   more rows differ from the source than are mended one by one

↻ marks a ``MayPass``: trying again later may help without anybody fixing anything.

A message says what happened and where; ``fix`` says what the reader can do.
"""


class MillraceError(Exception):
    """Root of the tree.

    Attributes:
        message: What happened, and where.
        fix: What the reader can do about it.
    """

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message, fix)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.fix}"

    @property
    def may_pass(self) -> bool:
        """Whether trying again later may help without anybody fixing anything."""
        return isinstance(self, MayPass)

    def __reduce__(self) -> tuple[object, ...]:
        # Airflow pickles errors across processes, and the default loses keyword arguments.
        return _rebuild, (type(self), self.message, self.fix)


def _rebuild(kind: type[MillraceError], message: str, fix: str) -> MillraceError:
    return kind(message, fix=fix)


class MayPass(MillraceError):
    """A mixin, besides an error's place in the tree: trying again later may help."""


class DeclarationError(MillraceError):
    """What the dbt project declares does not make sense."""


class ProjectError(MillraceError):
    """The dbt project or its manifest cannot be read."""


class SettingError(MillraceError):
    """A setting of the environment is missing or invalid."""


class TemplateError(MillraceError):
    """A project cannot be made from the template, or updated by it."""


class NotInstalled(MillraceError):
    """A declared kind needs a package that is not installed."""


class ConnectionNotFound(MillraceError):
    """No credentials under that connection id."""


class SourceError(MillraceError):
    """Reading from a source failed."""


class SourceUnavailable(MayPass, SourceError):
    """The server is down."""


class SourceBusy(MayPass, SourceError):
    """The server suffers more than the table declares that it may."""


class SourceRefused(SourceError):
    """The server refuses our account."""


class SourceFailed(SourceError):
    """The server gives an error that trying again does not fix."""


class IntervalOpen(MayPass, SourceError):
    """Transactions that are open at the source can still write into the interval."""


class RowsMissing(MayPass, SourceError):
    """Not as many rows were read as the source itself counts."""


class ValuesDiffer(MayPass, SourceError):
    """Other values were read than the source itself computes the checksums of."""


class SourceMismatch(SourceError):
    """What is declared is not there: a table, a column, a key."""


class TooFewRows(SourceError):
    """Fewer rows came than the declaration allows."""


class ValueDoesNotFit(SourceError):
    """A value that its column's type cannot hold."""


class SheetError(MillraceError):
    """Reading from or writing to Google Sheets failed."""


class SheetUnavailable(MayPass, SheetError):
    """Google cannot be reached, or is busy."""


class SheetRefused(SheetError):
    """Google refuses our key."""


class SpreadsheetNotFound(SheetError):
    """A spreadsheet is not there, or not shared with us."""


class SheetChanged(MayPass, SheetError):
    """Somebody changed a sheet while it was written."""


class PublicationRefused(SheetError):
    """Publishing would lose or overwrite what it must not."""


class CellNotPublished(SheetError):
    """A cell that does not show what the mart has now: a heading, a person's, an old value."""


class AlertError(MillraceError):
    """Telling people what is late or has failed did not work."""


class AirflowUnavailable(MayPass, AlertError):
    """Airflow's API server does not answer."""


class AirflowRefused(AlertError):
    """Airflow's API server refuses our account."""


class AlertNotSent(MayPass, AlertError):
    """A message did not arrive."""


class LandingError(MillraceError):
    """Writing to or reading from the landing failed."""


class LandingUnavailable(MayPass, LandingError):
    """The bucket or folder cannot be reached."""


class LandingRefused(LandingError):
    """The bucket or folder is missing, or refuses our account."""


class ManifestNotFound(LandingError):
    """An attempt that was never committed."""


class ManifestCorrupt(LandingError):
    """A manifest that is damaged, was changed after it was written, or is of another batch."""


class PartCorrupt(LandingError):
    """A Parquet part that is not what the manifest says."""


class MetadataError(MillraceError):
    """Airflow's metadata database cannot be dumped or cleaned."""


class MetadataUnavailable(MayPass, MetadataError):
    """It is down or busy."""


class MetadataRefused(MetadataError):
    """It refuses our account, or cannot be dumped by the program that is installed here."""


class WarehouseError(MillraceError):
    """Loading into the warehouse failed."""


class WarehouseUnavailable(MayPass, WarehouseError):
    """The warehouse is down."""


class WarehouseLocked(WarehouseUnavailable):
    """Another process holds the warehouse."""


class WarehouseBusy(WarehouseUnavailable):
    """Another transaction was in the way, or the connection broke."""


class WarehouseRefused(WarehouseError):
    """The warehouse refuses our account."""


class RelationNotFound(WarehouseError):
    """A mart or a column of it is not there."""


class SchemaConflict(WarehouseError):
    """The batch does not fit the raw table without losing something."""


class CountMismatch(WarehouseError):
    """The rows loaded are not the rows that the manifest promises."""


class TooManyDifferences(WarehouseError):
    """More loaded rows differ from their source than are mended one by one."""
