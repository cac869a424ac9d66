# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A result of MySQL's text protocol, read into the buffers of Arrow arrays.

In C, because a Python object for every value costs more than all the rest of a landing. It reads
from a connection that mysqlclient made, without Python's lock. Whole numbers, decimals, dates and
times are parsed from the server's text, in the one form in which the server writes them; any other
form, and every other type, is left as the bytes that came.
"""

import pyarrow as pa
from MySQLdb import InterfaceError, OperationalError, _mysql, get_client_info

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport INT16_MAX, INT32_MAX, INT64_MAX
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset


cdef extern from "mysql.h" nogil:
    ctypedef struct MYSQL:
        pass
    ctypedef struct MYSQL_RES:
        pass
    MYSQL_RES *mysql_use_result(MYSQL *connection)
    char **mysql_fetch_row(MYSQL_RES *result)
    unsigned long *mysql_fetch_lengths(MYSQL_RES *result)
    unsigned int mysql_num_fields(MYSQL_RES *result)
    void mysql_free_result(MYSQL_RES *result)
    unsigned int mysql_errno(MYSQL *connection)
    const char *mysql_error(MYSQL *connection)
    unsigned long mysql_thread_id(MYSQL *connection)
    const char *mysql_get_client_info()


cdef extern from *:
    """
    /* How mysqlclient's connection object begins (its src/MySQLdb/_mysql.c). */
    typedef struct { PyObject_HEAD MYSQL connection; } MillraceClient;
    /* mysqlclient's fileno() reads a field that MariaDB's library leaves empty. */
    #ifdef MARIADB_PACKAGE_VERSION
    #define millrace_socket(mysql) ((int)mysql_get_socket(mysql))
    #else
    #define millrace_socket(mysql) ((int)(mysql)->net.fd)
    #endif
    """
    ctypedef struct MillraceClient:
        MYSQL connection
    int millrace_socket(MYSQL *connection) nogil
    # Cython knows no integers of 128 bits, but the C compiler does.
    ctypedef long long int128_t "__int128"


cdef enum:
    # What a column keeps between two reads; the memory of longer values is given back.
    KEPT_BYTES = 2 * 1024 * 1024
    # MySQL's largest packet.
    LARGEST_ROW = 1024 * 1024 * 1024


cdef enum Kind:
    BYTES
    INTEGER
    DECIMAL
    DATE
    TIMESTAMP


cdef struct Values:
    # One column of the rows at hand, in Arrow's layout: values of `width` bytes, or for BYTES
    # values of any length between two offsets.
    Kind kind
    Py_ssize_t width
    int precision
    int scale
    char *data
    size_t capacity
    int32_t *offsets
    uint8_t *validity
    bint has_nulls


cdef class Result:
    """The rows of the query that a connection has just sent.

    It has to outlive its connection: to free a result before its end is to read the rest of it.

    Args:
        client: A connection of mysqlclient, after ``client.query(…)``.
        types: The Arrow types that the columns shall have.
        rows: The most rows of a read.

    Raises:
        OperationalError: the server refused the query.
        RuntimeError: mysqlclient was built with another library, or is built differently.
    """

    cdef object client
    cdef MYSQL *connection
    cdef MYSQL_RES *result
    cdef Py_ssize_t columns
    cdef Py_ssize_t rows
    cdef Values *values
    cdef list types
    # A row that was fetched but not taken, for this column is parsed no more.
    cdef char **left
    cdef Py_ssize_t refused

    def __cinit__(self, client not None, types, Py_ssize_t rows):
        cdef Py_ssize_t column
        cdef Values *values
        self.client = client
        self.connection = _connection_of(client)
        with nogil:
            self.result = mysql_use_result(self.connection)
        if self.result == NULL:
            self._raise()
        self.columns = mysql_num_fields(self.result)
        self.rows = rows
        self.values = <Values *>calloc(self.columns, sizeof(Values))
        if self.values == NULL:
            raise MemoryError
        self.types = list(types)
        if len(self.types) != self.columns:
            raise ValueError(f"{len(self.types)} types for {self.columns} columns")
        for column in range(self.columns):
            values = &self.values[column]
            _choose(values, self.types[column])
            values.capacity = rows * values.width
            values.data = <char *>malloc(max(values.capacity, 1))
            values.offsets = <int32_t *>calloc(rows + 1, sizeof(int32_t))
            values.validity = <uint8_t *>calloc((rows + 7) // 8, 1)
            if values.data == NULL or values.offsets == NULL or values.validity == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t column
        if self.values != NULL:
            for column in range(self.columns):
                free(self.values[column].data)
                free(self.values[column].offsets)
                free(self.values[column].validity)
            free(self.values)
        if self.result != NULL:
            with nogil:
                mysql_free_result(self.result)

    def read(self, size_t size):
        """Read on.

        Args:
            size: Bytes of values after which no other row is taken, at most 1 GiB.

        Returns:
            An array a column, all of the same length; of no rows at the end. It has the column's
            type where its values were parsed; else it is binary, as the server wrote them.

        Raises:
            InterfaceError: the connection is closed.
            OperationalError: the connection broke, or the server gave the query up.
        """
        cdef Py_ssize_t count, column
        if size > LARGEST_ROW:
            # With one row more, an offset still has 32 bits.
            raise ValueError(f"{size:,} bytes are too many for one read")
        if not self.client.open:
            raise InterfaceError(0, "the connection is closed")
        with nogil:
            count = self._fill(size)
            while count == 0 and self.left != NULL:
                count = self._fill(size)
        if count == -1:
            self._raise()
        if count == -2:
            raise MemoryError
        arrays = [self._array(column, count) for column in range(self.columns)]
        for column in range(self.columns):
            if self.values[column].kind == BYTES and self.values[column].capacity > KEPT_BYTES:
                free(self.values[column].data)
                self.values[column].data = NULL
                self.values[column].capacity = 0
        return arrays

    cdef Py_ssize_t _fill(self, size_t size) noexcept nogil:
        """How many rows were read; -1: the connection failed, -2: no memory."""
        cdef Py_ssize_t column, count = 0
        cdef size_t taken = 0, end
        cdef char **row
        cdef unsigned long *lengths
        cdef Values *values
        if self.left != NULL:
            self.values[self.refused].kind = BYTES
        for column in range(self.columns):
            self.values[column].has_nulls = False
            memset(self.values[column].validity, 0xFF, (self.rows + 7) // 8)
        while count < self.rows and taken < size:
            row = self.left if self.left != NULL else mysql_fetch_row(self.result)
            self.left = NULL
            if row == NULL:
                return -1 if mysql_errno(self.connection) else count
            lengths = mysql_fetch_lengths(self.result)
            for column in range(self.columns):
                values = &self.values[column]
                if values.kind == BYTES:
                    end = values.offsets[count]
                    if row[column] != NULL:
                        if end + lengths[column] > values.capacity and not _grow(
                            values, end + lengths[column]
                        ):
                            return -2
                        memcpy(values.data + end, row[column], lengths[column])
                        end += lengths[column]
                    values.offsets[count + 1] = <int32_t>end
                elif row[column] == NULL:
                    memset(values.data + count * values.width, 0, values.width)
                elif not _parse(values, count, row[column], lengths[column]):
                    self.left = row
                    self.refused = column
                    return count
                if row[column] == NULL:
                    values.has_nulls = True
                    values.validity[count // 8] &= ~(1 << (count % 8))
                taken += lengths[column]
            count += 1
        return count

    cdef object _array(self, Py_ssize_t column, Py_ssize_t count):
        cdef Values *values = &self.values[column]
        validity = None
        if values.has_nulls:
            validity = _buffer(<char *>values.validity, (count + 7) // 8)
        if values.kind != BYTES:
            data = _buffer(values.data, count * values.width)
            return pa.Array.from_buffers(self.types[column], count, [validity, data])
        offsets = _buffer(<char *>values.offsets, (count + 1) * sizeof(int32_t))
        data = _buffer(values.data, values.offsets[count])
        return pa.Array.from_buffers(pa.binary(), count, [validity, offsets, data])

    cdef _raise(self):
        text = mysql_error(self.connection).decode("utf-8", "replace")
        raise OperationalError(mysql_errno(self.connection), text or "the statement has no rows")


def socket_of(client not None):
    """The file descriptor of a connection of mysqlclient."""
    return millrace_socket(_connection_of(client))


cdef MYSQL *_connection_of(client) except NULL:
    if not isinstance(client, _mysql.connection):
        raise TypeError(f"not a connection of mysqlclient: {client!r}")
    cdef MYSQL *connection = &(<MillraceClient *><void *>client).connection
    if (
        mysql_get_client_info().decode() != get_client_info()
        or mysql_thread_id(connection) != client.thread_id()
    ):
        raise RuntimeError(
            "mysqlclient is built with another library than Millrace, or keeps its connections "
            "in another way: install the locked versions (make setup)."
        )
    return connection


cdef bint _grow(Values *values, size_t needed) noexcept nogil:
    cdef size_t capacity = max(needed, 2 * values.capacity)
    cdef char *data = <char *>realloc(values.data, capacity)
    if data == NULL:
        return False
    values.data = data
    values.capacity = capacity
    return True


cdef object _buffer(char *start, Py_ssize_t size):
    return pa.py_buffer(PyBytes_FromStringAndSize(start, size))


cdef _choose(Values *values, type_):
    """How a column of an Arrow type is parsed."""
    values.kind = BYTES
    if type_ in (pa.int16(), pa.int32(), pa.int64()):
        values.kind = INTEGER
    elif pa.types.is_decimal128(type_):
        values.kind = DECIMAL
        values.precision = type_.precision
        values.scale = type_.scale
    elif type_ == pa.date32():
        values.kind = DATE
    elif pa.types.is_timestamp(type_) and type_.unit == "us":
        # The session's time zone is UTC.
        values.kind = TIMESTAMP
    values.width = 0 if values.kind == BYTES else type_.bit_width // 8


cdef bint _parse(
    Values *values, Py_ssize_t row, const char *text, unsigned long length
) noexcept nogil:
    """Put a value into its place; False: it is not in the form that the server gives its type."""
    cdef int64_t whole
    cdef int128_t decimal
    if values.kind == INTEGER:
        if not _integer(text, length, &whole):
            return False
        if values.width == 8:
            (<int64_t *>values.data)[row] = whole
        elif values.width == 4 and -INT32_MAX - 1 <= whole <= INT32_MAX:
            (<int32_t *>values.data)[row] = <int32_t>whole
        elif values.width == 2 and -INT16_MAX - 1 <= whole <= INT16_MAX:
            (<int16_t *>values.data)[row] = <int16_t>whole
        else:
            return False
    elif values.kind == DECIMAL:
        if not _decimal(text, length, values.precision, values.scale, &decimal):
            return False
        (<int128_t *>values.data)[row] = decimal
    elif values.kind == DATE:
        if length != 10 or not _days(text, &whole):
            return False
        (<int32_t *>values.data)[row] = <int32_t>whole
    else:
        if not _microseconds(text, length, &whole):
            return False
        (<int64_t *>values.data)[row] = whole
    return True


cdef bint _integer(const char *text, unsigned long length, int64_t *value) noexcept nogil:
    cdef bint is_negative = length > 0 and text[0] == c"-"
    cdef unsigned long at = is_negative
    cdef uint64_t number = 0
    # As many digits as an unsigned one holds for sure.
    if length - at < 1 or length - at > 19:
        return False
    while at < length:
        if not c"0" <= text[at] <= c"9":
            return False
        number = number * 10 + <uint64_t>(text[at] - c"0")
        at += 1
    if number > <uint64_t>INT64_MAX:
        return False
    value[0] = -<int64_t>number if is_negative else <int64_t>number
    return True


cdef bint _decimal(
    const char *text, unsigned long length, int precision, int scale, int128_t *value
) noexcept nogil:
    """A number with exactly as many decimals as the scale, in units of the last one."""
    cdef bint is_negative = length > 0 and text[0] == c"-"
    cdef unsigned long at = is_negative, point = length
    cdef int digits = 0
    cdef uint64_t low = 0
    cdef int128_t number = 0
    if scale:
        if length < <unsigned long>scale + 2 + is_negative:
            return False
        point = length - scale - 1
        if text[point] != c".":
            return False
    elif length == at:
        return False
    while at < length:
        if at != point:
            if not c"0" <= text[at] <= c"9":
                return False
            # Leading zeros are none of its digits.
            if digits or text[at] != c"0":
                digits += 1
            if digits <= 18:
                low = low * 10 + <uint64_t>(text[at] - c"0")
            else:
                if digits == 19:
                    number = low
                number = number * 10 + (text[at] - c"0")
        at += 1
    if digits > precision:
        return False
    if digits <= 18:
        number = low
    value[0] = -number if is_negative else number
    return True


cdef bint _digits(const char *text, int count, int *value) noexcept nogil:
    cdef int at
    value[0] = 0
    for at in range(count):
        if not c"0" <= text[at] <= c"9":
            return False
        value[0] = value[0] * 10 + (text[at] - c"0")
    return True


cdef bint _days(const char *text, int64_t *days) noexcept nogil:
    """YYYY-MM-DD as days since 1970, by the Gregorian calendar; False: it has no such day."""
    cdef int year, month, day, longest = 31
    if text[4] != c"-" or text[7] != c"-" or not (
        _digits(text, 4, &year) and _digits(text + 5, 2, &month) and _digits(text + 8, 2, &day)
    ):
        return False
    if month in (4, 6, 9, 11):
        longest = 30
    elif month == 2:
        longest = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    if not (1 <= month <= 12 and 1 <= day <= longest):
        return False
    # A year that begins in March has its leap day at its end.
    if month <= 2:
        year -= 1
        month += 12
    # Beyond zero, where C's division rounds down: by 400 years, which always have 146,097 days.
    year += 400
    days[0] = (
        365 * year + year // 4 - year // 100 + year // 400
        + (153 * (month - 3) + 2) // 5 + day - 1
        - 719468 - 146097
    )
    return True


cdef bint _microseconds(const char *text, unsigned long length, int64_t *value) noexcept nogil:
    """YYYY-MM-DD HH:MM:SS[.ffffff], without a zone, as microseconds since 1970."""
    cdef int64_t days
    cdef int hour, minute, second, fraction = 0
    cdef int decimals = <int>length - 20
    if length != 19 and not (1 <= decimals <= 6):
        return False
    if text[10] != c" " or text[13] != c":" or text[16] != c":" or not (
        _days(text, &days)
        and _digits(text + 11, 2, &hour)
        and _digits(text + 14, 2, &minute)
        and _digits(text + 17, 2, &second)
    ):
        return False
    if hour > 23 or minute > 59 or second > 59:
        return False
    if length > 19:
        if text[19] != c"." or not _digits(text + 20, decimals, &fraction):
            return False
        while decimals < 6:
            fraction *= 10
            decimals += 1
    value[0] = (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000000 + fraction
    return True
