# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A result of MySQL's binary protocol, read into the buffers of Arrow arrays.

In C and without the GIL, because a Python object for every value costs more than all the rest of a
landing. The library hands over each value as the server sent it, in the one form that its type has:
no value is rounded on its way.
"""

from typing import NamedTuple

import pyarrow as pa

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from millrace.sources.mysql.client cimport (
    MYSQL,
    MYSQL_FIELD,
    MYSQL_NO_DATA,
    MYSQL_TYPE_DATE,
    MYSQL_TYPE_DATETIME,
    MYSQL_TYPE_DOUBLE,
    MYSQL_TYPE_FLOAT,
    MYSQL_TYPE_INT24,
    MYSQL_TYPE_LONG,
    MYSQL_TYPE_LONGLONG,
    MYSQL_TYPE_NEWDECIMAL,
    MYSQL_TYPE_SHORT,
    MYSQL_TYPE_TIME,
    MYSQL_TYPE_TIMESTAMP,
    MYSQL_TYPE_TINY,
    MYSQL_TYPE_YEAR,
    STMT_ATTR_CB_RESULT,
    STMT_ATTR_CB_USER_DATA,
    UNSIGNED_FLAG,
    Client,
    mariadb_stmt_fetch_fields,
    mysql_stmt_attr_set,
    mysql_stmt_fetch,
    mysql_stmt_field_count,
)

from millrace.sources.mysql.client import MySQLError


cdef extern from *:
    """
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "Values are taken as the protocol has them: with their lowest byte first."
    #endif
    """
    # Cython knows no integers of 128 bits, but the C compiler does.
    ctypedef long long int128_t "__int128"


cdef enum:
    # The most memory that a column keeps between two reads; a larger buffer is freed.
    KEPT_BYTES = 2 * 1024 * 1024
    # MySQL's largest packet.
    LARGEST_ROW = 1024 * 1024 * 1024
    # The most bytes of a TIME, or of a time in a message, as text.
    TIME_BYTES = 64
    # A decimal number has up to 65 digits, a sign and a point.
    MISFIT_BYTES = 80
    CR_MALFORMED_PACKET = 2027
    CR_NO_STMT_METADATA = 2052


cdef enum Kind:
    BYTES
    INTEGER
    FLOAT
    DOUBLE
    DECIMAL
    DATE
    TIMESTAMP
    TIME


cdef enum Outcome:
    TAKEN
    # '0000-00-00', '2024-00-10', '2024-05-00': MySQL keeps dates that no calendar has.
    NO_DATE
    MISFIT
    NO_MEMORY
    MALFORMED
    LOST


cdef struct Values:
    # One column of the current rows, in Arrow's layout: values of `width` bytes or, if `width` is
    # 0, values of any length between two offsets.
    Kind kind
    Py_ssize_t width
    # Bytes of a value in the protocol; 0 if its length comes before it.
    Py_ssize_t sent
    bint is_unsigned
    int precision
    int scale
    char *data
    size_t capacity
    int32_t *offsets
    uint8_t *validity
    bint has_nulls
    int64_t without_date
    # Whether a date that no calendar has is a misfit, and not just NULL.
    bint is_strict


cdef struct Refused:
    # A value that its column's type cannot hold.
    Py_ssize_t row
    unsigned int column
    size_t length
    uint8_t value[MISFIT_BYTES]


cdef struct Reading:
    # What the library's callback reads and writes.
    MYSQL *connection
    Values *values
    Py_ssize_t rows
    size_t taken
    Outcome outcome
    Refused *refused
    size_t misfits
    size_t room


class Misfit(NamedTuple):
    """A value that its column's type cannot hold.

    Attributes:
        row: Its row's position in what was read.
        column: The column's position.
        value: The value as text.
    """

    row: int
    column: int
    value: str


cdef class Result:
    """The rows of a query.

    To read another result with the same connection, first read this one to its end.

    Args:
        client: The connection.
        query: What to ask.
        types: The Arrow types that the columns are to have.
        rows: The most rows per read.
        strict: Positions of the columns in which a date that no calendar has is a misfit; in the
            others it becomes NULL.

    Raises:
        MySQLError: the server refused the query, or it returns no rows.
    """

    cdef Client client
    cdef Reading reading
    cdef Py_ssize_t columns
    cdef Py_ssize_t rows
    cdef list types
    # Whether all rows have been read, and what went wrong.
    cdef bint is_done
    cdef object error

    def __cinit__(self, Client client not None, str query, types, Py_ssize_t rows, strict=()):
        if rows < 1:
            raise ValueError(f"a read takes rows, not {rows}")
        self.client = client
        self.rows = rows
        client.enter()
        try:
            client.execute(query)
            self.columns = mysql_stmt_field_count(client.statement)
            if not self.columns:
                raise MySQLError(CR_NO_STMT_METADATA, "HY000", "The statement has no rows")
            self._prepare(mariadb_stmt_fetch_fields(client.statement), list(types))
            for column in strict:
                self.reading.values[<Py_ssize_t>column].is_strict = True
        finally:
            client.leave()

    def __dealloc__(self):
        cdef Py_ssize_t column
        if self.reading.values != NULL:
            for column in range(self.columns):
                free(self.reading.values[column].data)
                free(self.reading.values[column].offsets)
                free(self.reading.values[column].validity)
            free(self.reading.values)
        free(self.reading.refused)

    @property
    def without_date(self):
        """How many dates that no calendar has became NULL so far, by column."""
        return [self.reading.values[column].without_date for column in range(self.columns)]

    @property
    def misfits(self):
        """The values of the last read that their columns' types cannot hold, in their order."""
        return [_misfit(&self.reading, at) for at in range(self.reading.misfits)]

    def read(self, size_t size):
        """Read the next rows.

        Args:
            size: Bytes of values after which no further row is read, at most 1 GiB.

        Returns:
            One array per column, all of the same length; empty at the end of the result. An array
            has the type in which the server sends the column: the wanted one, or one to cast to it.
            A value that this type cannot hold is NULL, and one of the ``misfits``.

        Raises:
            MySQLError: the connection is closed or broke, or the server ended the query.
        """
        if not 0 < size <= LARGEST_ROW:
            # One more row may be read beyond the size: its offset must still fit 32 bits.
            raise ValueError(f"a read takes 1 byte to 1 GiB, not {size:,} bytes")
        self.client.enter()
        try:
            if self.error is not None:
                raise self.error
            self._read(size)
            return [self._array(column) for column in range(self.columns)]
        except Exception as error:
            # Rows are lost, so a later read must not return the rows after them.
            self.error = error
            raise
        finally:
            self.client.leave()

    cdef _prepare(self, MYSQL_FIELD *fields, list types):
        cdef Py_ssize_t column
        cdef Values *values
        if len(types) != self.columns:
            raise ValueError(f"{len(types)} types for {self.columns} columns")
        self.types = []
        self.reading.values = <Values *>calloc(max(self.columns, 1), sizeof(Values))
        if self.reading.values == NULL:
            raise MemoryError
        for column in range(self.columns):
            values = &self.reading.values[column]
            self.types.append(_choose(values, &fields[column], types[column]))
            values.capacity = self.rows * values.width
            values.data = <char *>malloc(values.capacity + 1)
            values.offsets = <int32_t *>calloc(self.rows + 1, sizeof(int32_t))
            values.validity = <uint8_t *>calloc((self.rows + 7) // 8, 1)
            if values.data == NULL or values.offsets == NULL or values.validity == NULL:
                raise MemoryError
        mysql_stmt_attr_set(self.client.statement, STMT_ATTR_CB_USER_DATA, &self.reading)
        mysql_stmt_attr_set(self.client.statement, STMT_ATTR_CB_RESULT, <const void *>_take)

    cdef _read(self, size_t size):
        cdef Py_ssize_t column
        self.reading.connection = self.client.connection
        self.reading.rows = 0
        self.reading.taken = 0
        self.reading.misfits = 0
        for column in range(self.columns):
            self.reading.values[column].has_nulls = False
            memset(self.reading.values[column].validity, 0xFF, (self.rows + 7) // 8)
        if self.is_done:
            return
        with nogil:
            self.is_done = self._fill(size)
        if self.reading.outcome != TAKEN:
            error = self._failure()
            if _is_of_server(error):
                # The server itself has ended the result: the connection is free again.
                self.client.is_reading = False
            raise error
        if self.is_done:
            self.client.is_reading = False

    cdef bint _fill(self, size_t size) noexcept nogil:
        """Fetch rows up to the limits; return whether the result is at its end."""
        cdef int status
        while self.reading.rows < self.rows and self.reading.taken < size:
            status = mysql_stmt_fetch(self.client.statement)
            if status == MYSQL_NO_DATA:
                return True
            if status:
                self.reading.outcome = LOST
            if self.reading.outcome != TAKEN:
                return False
            self.reading.rows += 1
        return False

    cdef object _failure(self):
        cdef Reading *reading = &self.reading
        if reading.outcome == NO_MEMORY:
            return MemoryError()
        if reading.outcome == MALFORMED:
            return MySQLError(CR_MALFORMED_PACKET, "HY000", "Malformed packet")
        return self.client.error()

    cdef object _array(self, Py_ssize_t column):
        cdef Values *values = &self.reading.values[column]
        cdef Py_ssize_t count = self.reading.rows
        validity = None
        if values.has_nulls:
            validity = _buffer(<char *>values.validity, (count + 7) // 8)
        if values.width:
            data = _buffer(values.data, count * values.width)
            return pa.Array.from_buffers(self.types[column], count, [validity, data])
        offsets = _buffer(<char *>values.offsets, (count + 1) * sizeof(int32_t))
        data = _buffer(values.data, values.offsets[count])
        if values.capacity > KEPT_BYTES:
            free(values.data)
            values.data = NULL
            values.capacity = 0
        return pa.Array.from_buffers(pa.binary(), count, [validity, offsets, data])


cdef bint _is_of_server(object error):
    if not isinstance(error, MySQLError):
        return False
    # The library's own errors begin at 2000, and MariaDB's further ones at 5000.
    return error.number < 2000 or 3000 <= error.number < 5000


cdef object _buffer(char *start, Py_ssize_t size):
    return pa.py_buffer(PyBytes_FromStringAndSize(start, size))


cdef object _choose(Values *values, MYSQL_FIELD *field, type_):
    """Choose how a column is read; return the Arrow type that its values then have."""
    cdef Py_ssize_t sent = _integer_bytes(field.type)
    if sent:
        values.is_unsigned = (field.flags & UNSIGNED_FLAG) != 0
        return _as(values, INTEGER, 8, sent, pa.uint64() if values.is_unsigned else pa.int64())
    if field.type == MYSQL_TYPE_FLOAT:
        return _as(values, FLOAT, 4, 4, pa.float32())
    if field.type == MYSQL_TYPE_DOUBLE:
        return _as(values, DOUBLE, 8, 8, pa.float64())
    if field.type == MYSQL_TYPE_NEWDECIMAL and pa.types.is_decimal128(type_):
        values.precision, values.scale = type_.precision, type_.scale
        return _as(values, DECIMAL, 16, 0, type_)
    if field.type == MYSQL_TYPE_DATE:
        return _as(values, DATE, 4, 0, pa.date32())
    if field.type == MYSQL_TYPE_DATETIME or field.type == MYSQL_TYPE_TIMESTAMP:
        # The session's time zone is UTC.
        moment = pa.timestamp("us", "UTC")
        return _as(values, TIMESTAMP, 8, 0, type_ if type_ == moment else pa.timestamp("us"))
    if field.type == MYSQL_TYPE_TIME:
        values.scale = min(field.decimals, 6)
        return _as(values, TIME, 0, 0, pa.binary())
    return _as(values, BYTES, 0, 0, pa.binary())


cdef object _as(Values *values, Kind kind, Py_ssize_t width, Py_ssize_t sent, type_):
    values.kind, values.width, values.sent = kind, width, sent
    return type_


cdef Py_ssize_t _integer_bytes(int type_) noexcept:
    """Bytes of an integer type in the protocol; 0 for any other type."""
    if type_ == MYSQL_TYPE_TINY:
        return 1
    if type_ == MYSQL_TYPE_SHORT or type_ == MYSQL_TYPE_YEAR:
        return 2
    if type_ == MYSQL_TYPE_INT24 or type_ == MYSQL_TYPE_LONG:
        return 4
    return 8 if type_ == MYSQL_TYPE_LONGLONG else 0


cdef void _take(void *data, unsigned int column, unsigned char **row) noexcept nogil:
    """Called by the library for every value: take the value, and move on to the next."""
    cdef Reading *reading = <Reading *>data
    cdef Values *values = &reading.values[column]
    cdef const uint8_t *value
    cdef size_t length
    if reading.outcome != TAKEN:
        return
    if row == NULL:
        _take_null(values, reading.rows)
        return
    if not _length(values, row, reading.connection.net.buff_end, &length):
        reading.outcome = MALFORMED
        return
    value = row[0]
    row[0] += length
    reading.taken += length
    reading.outcome = _take_value(values, reading.rows, value, length)
    if reading.outcome == NO_DATE and not values.is_strict:
        _take_null(values, reading.rows)
        values.without_date += 1
        reading.outcome = TAKEN
    elif reading.outcome == NO_DATE or reading.outcome == MISFIT:
        _take_null(values, reading.rows)
        reading.outcome = _keep(reading, column, value, length)


cdef Outcome _keep(
    Reading *reading, unsigned int column, const uint8_t *value, size_t length
) noexcept nogil:
    """Remember a value that does not fit."""
    cdef Refused *refused
    cdef size_t room = max(<size_t>16, 2 * reading.room)
    if reading.misfits == reading.room:
        refused = <Refused *>realloc(reading.refused, room * sizeof(Refused))
        if refused == NULL:
            return NO_MEMORY
        reading.refused, reading.room = refused, room
    refused = &reading.refused[reading.misfits]
    refused.row, refused.column = reading.rows, column
    refused.length = min(length, <size_t>MISFIT_BYTES)
    memset(refused.value, 0, MISFIT_BYTES)
    memcpy(refused.value, value, refused.length)
    reading.misfits += 1
    return TAKEN


cdef bint _length(
    Values *values, unsigned char **row, const uint8_t *end, size_t *length
) noexcept nogil:
    """Find a value's length in bytes; False if it exceeds the buffer, as in a broken packet."""
    cdef size_t left = end - row[0], size = 0
    if values.sent:
        length[0] = values.sent
        return length[0] <= left
    if left < 1:
        return False
    length[0] = row[0][0]
    if length[0] > 250:
        size = 2 if length[0] == 252 else 3 if length[0] == 253 else 8
        if left < 1 + size:
            return False
        length[0] = 0
        memcpy(length, row[0] + 1, size)
    row[0] += 1 + size
    return length[0] <= left - 1 - size


cdef void _take_null(Values *values, Py_ssize_t at) noexcept nogil:
    values.has_nulls = True
    values.validity[at // 8] &= ~(1 << (at % 8))
    if values.width:
        memset(values.data + at * values.width, 0, values.width)
    else:
        values.offsets[at + 1] = values.offsets[at]


cdef Outcome _take_value(
    Values *values, Py_ssize_t at, const uint8_t *value, size_t length
) noexcept nogil:
    cdef char text[TIME_BYTES]
    if values.kind == BYTES:
        return _append(values, at, <const char *>value, length)
    if values.kind == INTEGER:
        return _integer(values, value, &(<int64_t *>values.data)[at])
    if values.kind == FLOAT or values.kind == DOUBLE:
        memcpy(values.data + at * values.width, value, length)
        return TAKEN
    if values.kind == DECIMAL:
        return _decimal(values, <const char *>value, length, &(<int128_t *>values.data)[at])
    if values.kind == DATE:
        return _date(value, length, &(<int32_t *>values.data)[at])
    if values.kind == TIMESTAMP:
        return _microseconds(value, length, &(<int64_t *>values.data)[at])
    length = _time_text(value, length, values.scale, text)
    return _append(values, at, text, length) if length else MALFORMED


cdef Outcome _append(
    Values *values, Py_ssize_t at, const char *text, size_t length
) noexcept nogil:
    cdef size_t start = values.offsets[at], end = start + length
    if end > values.capacity and not _grow(values, end):
        return NO_MEMORY
    memcpy(values.data + start, text, length)
    values.offsets[at + 1] = <int32_t>end
    return TAKEN


cdef bint _grow(Values *values, size_t needed) noexcept nogil:
    cdef size_t capacity = max(needed, 2 * values.capacity)
    cdef char *data = <char *>realloc(values.data, capacity)
    if data == NULL:
        return False
    values.data = data
    values.capacity = capacity
    return True


cdef Outcome _integer(Values *values, const uint8_t *value, int64_t *whole) noexcept nogil:
    if values.sent == 8:
        memcpy(whole, value, 8)
    elif values.sent == 4:
        whole[0] = _uint32(value)
        if not values.is_unsigned:
            whole[0] = <int32_t>whole[0]
    elif values.sent == 2:
        whole[0] = _uint16(value)
        if not values.is_unsigned:
            whole[0] = <int16_t>whole[0]
    else:
        whole[0] = value[0]
        if not values.is_unsigned:
            whole[0] = <int8_t>whole[0]
    return TAKEN


cdef uint16_t _uint16(const uint8_t *value) noexcept nogil:
    cdef uint16_t whole
    memcpy(&whole, value, 2)
    return whole


cdef uint32_t _uint32(const uint8_t *value) noexcept nogil:
    cdef uint32_t whole
    memcpy(&whole, value, 4)
    return whole


cdef Outcome _decimal(
    Values *values, const char *text, size_t length, int128_t *value
) noexcept nogil:
    """Parse a decimal number into an integer, in units of its scale's last decimal."""
    cdef bint is_negative = length > 0 and text[0] == c"-"
    cdef size_t at = is_negative
    cdef int digits = 0, decimals = -1
    cdef uint64_t low = 0
    cdef int128_t number = 0
    cdef char digit
    if length == at:
        return MISFIT
    while at < length or decimals < values.scale:
        # A server may omit trailing zeros.
        digit = text[at] if at < length else c"." if decimals < 0 else c"0"
        at += 1
        if digit == c"." and decimals < 0:
            decimals = 0
            continue
        if not c"0" <= digit <= c"9":
            return MISFIT
        if decimals >= 0:
            decimals += 1
        if decimals > values.scale:
            if digit != c"0":
                return MISFIT
            continue
        # Leading zeros do not count as digits.
        if digits or digit != c"0":
            digits += 1
        if digits <= 18:
            low = low * 10 + <uint64_t>(digit - c"0")
        else:
            if digits == 19:
                number = low
            number = number * 10 + (digit - c"0")
        if digits > values.precision:
            return MISFIT
    if digits <= 18:
        number = low
    value[0] = -number if is_negative else number
    return TAKEN


cdef Outcome _date(const uint8_t *value, size_t length, int32_t *days) noexcept nogil:
    cdef int64_t whole = 0
    cdef Outcome outcome
    if length != 0 and length != 4:
        return MALFORMED
    outcome = _days(value, length, &whole)
    days[0] = <int32_t>whole
    return outcome


cdef Outcome _days(const uint8_t *value, size_t length, int64_t *days) noexcept nogil:
    """Year, month and day as days since 1970, by the Gregorian calendar."""
    cdef int year, month, day, longest = 31
    if length == 0:
        return NO_DATE
    year, month, day = _uint16(value), value[2], value[3]
    if month == 0 or day == 0:
        return NO_DATE
    if month in (4, 6, 9, 11):
        longest = 30
    elif month == 2:
        longest = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if month > 12 or day > longest:
        return MISFIT
    # A year that begins in March has its leap day at its end.
    if month <= 2:
        year -= 1
        month += 12
    # Above zero, C's division rounds down. So add 400 years, which always have 146,097 days.
    year += 400
    days[0] = (
        365 * year + year // 4 - year // 100 + year // 400
        + (153 * (month - 3) + 2) // 5 + day - 1
        - 719468 - 146097
    )
    return TAKEN


cdef Outcome _microseconds(const uint8_t *value, size_t length, int64_t *moment) noexcept nogil:
    """A date and a time of day, without a zone, as microseconds since 1970."""
    cdef int64_t days = 0, seconds = 0
    cdef Outcome outcome
    if length not in (0, 4, 7, 11):
        return MALFORMED
    outcome = _days(value, length, &days)
    if outcome != TAKEN:
        return outcome
    if length >= 7:
        if value[4] > 23 or value[5] > 59 or value[6] > 59:
            return MISFIT
        seconds = (value[4] * 60 + value[5]) * 60 + value[6]
    moment[0] = (days * 24 * 60 * 60 + seconds) * 1000000
    if length == 11:
        moment[0] += _uint32(value + 7)
    return TAKEN


cdef size_t _time_text(
    const uint8_t *value, size_t length, int decimals, char *text
) noexcept nogil:
    """Write a TIME as the server writes it; return its length, 0 if the value is malformed."""
    cdef uint32_t hours = 0, minutes = 0, seconds = 0, micros = 0
    cdef const char *sign = b""
    cdef int size, _
    if length not in (0, 8, 12):
        return 0
    if length:
        sign = b"-" if value[0] else b""
        hours = 24 * _uint32(value + 1) + value[5]
        minutes, seconds = value[6], value[7]
    if length == 12:
        micros = _uint32(value + 8)
    size = snprintf(text, TIME_BYTES, b"%s%02u:%02u:%02u", sign, hours, minutes, seconds)
    if decimals == 0:
        return size
    for _ in range(6 - decimals):
        micros //= 10
    return size + snprintf(text + size, TIME_BYTES - size, b".%0*u", decimals, micros)


cdef object _misfit(Reading *reading, size_t at):
    cdef Refused *refused = &reading.refused[at]
    cdef Kind kind = reading.values[refused.column].kind
    cdef const uint8_t *value = refused.value
    if kind == DECIMAL:
        text = value[:refused.length].decode("utf-8", "replace")
    else:
        # What was not sent is zero.
        text = f"{_uint16(value):04}-{value[2]:02}-{value[3]:02}"
        if kind == TIMESTAMP:
            text += f" {value[4]:02}:{value[5]:02}:{value[6]:02}"
            text += f".{_uint32(value + 7):06}" if refused.length == 11 else ""
    return Misfit(refused.row, refused.column, text)
