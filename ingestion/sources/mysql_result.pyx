# cython: language_level=3, boundscheck=False, wraparound=False
"""A result of MySQL's text protocol, read into the buffers of Arrow arrays.

In C, because a Python object for every value costs more than all the rest of a landing. It reads
from a connection that mysqlclient made, without Python's lock, and knows no types: each column
comes as the bytes that the server sent.
"""

import pyarrow as pa
from MySQLdb import InterfaceError, OperationalError, _mysql, get_client_info

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free, realloc
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
    """
    ctypedef struct MillraceClient:
        MYSQL connection


cdef enum:
    # What a column keeps between two reads; the memory of a longer value is given back.
    KEPT_BYTES = 16 * 1024 * 1024
    # MySQL's largest packet.
    LARGEST_ROW = 1024 * 1024 * 1024


cdef struct Values:
    # One column of the rows at hand: Arrow's layout of a binary array.
    char *data
    size_t capacity
    int32_t *offsets
    uint8_t *validity
    Py_ssize_t nulls


cdef class Result:
    """The rows of the query that a connection has just sent.

    It has to outlive its connection: to free a result before its end is to read the rest of it.

    Args:
        client: A connection of mysqlclient, after ``client.query(…)``.
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

    def __cinit__(self, client not None, Py_ssize_t rows):
        cdef Py_ssize_t column
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
        for column in range(self.columns):
            self.values[column].offsets = <int32_t *>calloc(rows + 1, sizeof(int32_t))
            self.values[column].validity = <uint8_t *>calloc((rows + 7) // 8, 1)
            if self.values[column].offsets == NULL or self.values[column].validity == NULL:
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
            A binary array a column, all of the same length; of no rows at the end.

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
        if count == -1:
            self._raise()
        if count == -2:
            raise MemoryError
        arrays = [self._array(column, count) for column in range(self.columns)]
        for column in range(self.columns):
            if self.values[column].capacity > KEPT_BYTES:
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
        for column in range(self.columns):
            self.values[column].nulls = 0
            memset(self.values[column].validity, 0xFF, (self.rows + 7) // 8)
        while count < self.rows and taken < size:
            row = mysql_fetch_row(self.result)
            if row == NULL:
                return -1 if mysql_errno(self.connection) else count
            lengths = mysql_fetch_lengths(self.result)
            for column in range(self.columns):
                values = &self.values[column]
                end = values.offsets[count]
                if row[column] == NULL:
                    values.nulls += 1
                    values.validity[count // 8] &= ~(1 << (count % 8))
                else:
                    if end + lengths[column] > values.capacity and not _grow(
                        values, end + lengths[column]
                    ):
                        return -2
                    memcpy(values.data + end, row[column], lengths[column])
                    end += lengths[column]
                    taken += lengths[column]
                values.offsets[count + 1] = <int32_t>end
            count += 1
        return count

    cdef object _array(self, Py_ssize_t column, Py_ssize_t count):
        cdef Values *values = &self.values[column]
        validity = None
        if values.nulls:
            validity = _buffer(<char *>values.validity, (count + 7) // 8)
        offsets = _buffer(<char *>values.offsets, (count + 1) * sizeof(int32_t))
        data = _buffer(values.data, values.offsets[count])
        return pa.Array.from_buffers(
            pa.binary(), count, [validity, offsets, data], null_count=values.nulls
        )

    cdef _raise(self):
        text = mysql_error(self.connection).decode("utf-8", "replace")
        raise OperationalError(mysql_errno(self.connection), text)


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
