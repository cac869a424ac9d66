"""The clock of a cursor column: which wall clock times the column shows during an interval.

A column shows the wall clock of one zone, at a precision of its own. When summer time ends, an hour
of that clock comes twice: a batch must then read too much rather than too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from millrace.batch import Interval

DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
# No zone is further from UTC, and none has ever changed its clock by more.
_FARTHEST = timedelta(hours=25)


@dataclass(frozen=True)
class CursorClock:
    """What a cursor column shows at any moment.

    Attributes:
        zone: The zone that the column is written in.
        step: Its precision: a microsecond to a second, or a day.
    """

    zone: tzinfo = UTC
    step: timedelta = timedelta(microseconds=1)

    def floor(self, moment: datetime) -> datetime:
        """The last moment, not after the given one, at which the column changes.

        Rows that are written later in the same second, or on the same day, look the same: an
        interval must end before them.
        """
        local = moment.astimezone(self.zone)
        if self.step >= DAY:
            floored = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        else:
            step = self.step // timedelta(microseconds=1)
            floored = local.replace(microsecond=local.microsecond // step * step)
        return floored.astimezone(UTC)

    def bounds(self, interval: Interval) -> tuple[datetime | None, datetime | None]:
        """What the column shows during an interval, as a half-open range of wall clock times.

        Everything that the column shows in the interval lies in the range. Around a clock change
        the range is wider by that change, and the neighbouring interval reads those rows too.
        """
        start, end = interval.start, interval.end
        if start is not None:
            until = min(end, start + _FARTHEST) if end else start + _FARTHEST
            start = _naive(start) + min(self._offsets(start, until))
        if end is not None:
            since = max(interval.start, end - _FARTHEST) if interval.start else end - _FARTHEST
            end = _naive(end) + max(self._offsets(since, end))
        return start, end

    def earliest(self, shown: datetime) -> datetime:
        """The first moment at which the column can have shown a wall clock time."""
        moments = {shown.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
        return min(moments)

    def _offsets(self, since: datetime, until: datetime) -> set[timedelta]:
        moments, at = {since, until}, since
        while (at := at + _HOUR) < until:
            moments.add(at)
        return {moment.astimezone(self.zone).utcoffset() or timedelta(0) for moment in moments}


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
