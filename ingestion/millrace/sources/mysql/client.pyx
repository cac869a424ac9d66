# cython: language_level=3
"""A connection to a MySQL or MariaDB server, over MariaDB's C client library.

Small results come as text, as the server writes it; ``result`` reads the large ones.
"""

from pathlib import Path

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

cdef extern from "sys/socket.h" nogil:
    int SHUT_RDWR
    int shutdown(int socket, int how)

cdef extern from "unistd.h" nogil:
    int dup(int descriptor)
    int close(int descriptor)

cdef enum:
    # The library's numbers for its own errors.
    CR_OUT_OF_MEMORY = 2008
    CR_SERVER_GONE_ERROR = 2006
    CR_COMMANDS_OUT_OF_SYNC = 2014

# A wheel brings the library's plugins along; elsewhere the library knows where they are.
_PLUGINS = Path(__file__).with_name("plugins")

# A server's names and texts may hold bytes that are not UTF-8; they are sent back unchanged.
_ENCODING = ("utf-8", "surrogateescape")

# Not thread-safe, so it is not left to the first connections.
mysql_server_init(0, NULL, NULL)


class MySQLError(Exception):
    """An error that the server or its client gives.

    Attributes:
        number: Its number; the server's begin at 1000, the client's at 2000.
        sqlstate: Its SQLSTATE, five characters.
        text: What it says.
    """

    def __init__(self, number, sqlstate, text):
        super().__init__(number, sqlstate, text)
        self.number = number
        self.sqlstate = sqlstate
        self.text = text

    def __str__(self):
        return f"{self.text} ({self.number})"


cdef class Client:
    """A connection, for one thread at a time.

    Args:
        host: Name or address; ``localhost`` means the socket.
        port: The server's port.
        user: The account; None means the process's user.
        password: Its password, if any.
        database: The default database, if any.
        unix_socket: Path of the socket, for ``localhost``; None means the library's default.
        connect_timeout: Seconds.
        read_timeout: Seconds without a byte.
        write_timeout: Seconds in which nothing can be sent.
        tls: How the connection is encrypted (``tls.Tls``); None means not at all.

    Raises:
        MySQLError: the server cannot be reached, or does not let us in.
    """

    def __cinit__(
        self,
        *,
        str host,
        unsigned int port,
        str user,
        str password,
        str database,
        str unix_socket,
        unsigned int connect_timeout,
        unsigned int read_timeout,
        unsigned int write_timeout,
        tls,
    ):
        self.socket = -1
        self.connection = mysql_init(NULL)
        if self.connection == NULL:
            raise MemoryError
        _set_number(self.connection, MYSQL_OPT_CONNECT_TIMEOUT, connect_timeout)
        _set_number(self.connection, MYSQL_OPT_READ_TIMEOUT, read_timeout)
        _set_number(self.connection, MYSQL_OPT_WRITE_TIMEOUT, write_timeout)
        # A server must not ask for our files.
        _set_number(self.connection, MYSQL_OPT_LOCAL_INFILE, 0)
        mysql_options(self.connection, MYSQL_SET_CHARSET_NAME, b"utf8mb4")
        if _PLUGINS.is_dir():
            mysql_options(self.connection, MYSQL_PLUGIN_DIR, _chars(_bytes(str(_PLUGINS))))
        _set_tls(self.connection, tls)
        self._connect(
            _bytes(host), port, _bytes(user), _bytes(password), _bytes(database),
            _bytes(unix_socket),
        )
        self.socket = dup(mysql_get_socket(self.connection))

    def __dealloc__(self):
        self._end()

    @property
    def cipher(self):
        """The cipher of the connection; None if it is not encrypted."""
        self.enter()
        try:
            name = mysql_get_ssl_cipher(self.connection)
            return None if name == NULL else name.decode()
        finally:
            self.leave()

    def rows(self, str statement):
        """Run a statement and take its whole result.

        Returns:
            The columns' names, and the rows: texts, or None for NULL. Of a statement without a
            result, two empty lists.

        Raises:
            MySQLError: the server refuses the statement, or the connection is lost or closed.
        """
        cdef bytes encoded = _bytes(statement)
        cdef const char *text = encoded
        cdef unsigned long length = len(encoded)
        cdef MYSQL_RES *result = NULL
        cdef bint is_refused
        self.enter()
        try:
            with nogil:
                is_refused = mysql_real_query(self.connection, text, length)
                if not is_refused:
                    result = mysql_store_result(self.connection)
            if is_refused or mysql_errno(self.connection):
                raise self.error()
            return ([], []) if result == NULL else (_names(result), _rows(result))
        finally:
            mysql_free_result(result)
            self.leave()

    def literal(self, str value):
        """A text as a literal of this connection's SQL, with its quotes."""
        cdef bytes text = _bytes(value)
        cdef bytes escaped = PyBytes_FromStringAndSize(NULL, 2 * len(text) + 1)
        cdef unsigned long length
        self.enter()
        try:
            length = mysql_real_escape_string(
                self.connection, PyBytes_AS_STRING(escaped), text, len(text)
            )
        finally:
            self.leave()
        return f"'{escaped[:length].decode(*_ENCODING)}'"

    def cut(self):
        """Shut the socket down, which ends any wait for it; any thread may call this."""
        if self.socket != -1:
            shutdown(self.socket, SHUT_RDWR)

    def close(self):
        """Close the connection properly; a second call does nothing.

        Raises:
            MySQLError: another thread is using it.
        """
        if self.connection != NULL:
            self.enter()
            try:
                self._end()
            finally:
                self.leave()

    cdef int enter(self) except -1:
        """Begin to use the connection; refuse this while another thread does."""
        if self.connection == NULL:
            raise MySQLError(CR_SERVER_GONE_ERROR, "HY000", "The connection is closed")
        if self.is_busy:
            raise MySQLError(
                CR_COMMANDS_OUT_OF_SYNC, "HY000", "Another thread is using the connection"
            )
        self.is_busy = True
        return 0

    cdef int leave(self) except -1:
        self.is_busy = False
        return 0

    cdef int execute(self, str query) except -1:
        """Send a query and begin its result; this object keeps its statement."""
        cdef bytes encoded = _bytes(query)
        cdef const char *text = encoded
        cdef unsigned long length = len(encoded)
        cdef bint is_refused
        if self.is_reading:
            raise MySQLError(
                CR_COMMANDS_OUT_OF_SYNC, "HY000", "Another result is not read to its end"
            )
        if self.statement != NULL:
            with nogil:
                mysql_stmt_close(self.statement)
        self.statement = mysql_stmt_init(self.connection)
        if self.statement == NULL:
            raise self.error()
        with nogil:
            is_refused = (
                mysql_stmt_prepare(self.statement, text, length)
                or mysql_stmt_execute(self.statement)
            )
        if is_refused:
            raise self.error()
        self.is_reading = mysql_stmt_field_count(self.statement) > 0
        return 0

    cdef error(self):
        """What the library says went wrong, with the connection or with the statement."""
        if self.statement != NULL and not mysql_errno(self.connection):
            return _error(
                mysql_stmt_errno(self.statement),
                mysql_stmt_sqlstate(self.statement),
                mysql_stmt_error(self.statement),
            )
        return _error(
            mysql_errno(self.connection),
            mysql_sqlstate(self.connection),
            mysql_error(self.connection),
        )

    def _connect(
        self, bytes host, unsigned int port, bytes user, bytes password, bytes database,
        bytes unix_socket,
    ):
        cdef const char *c_host = _chars(host)
        cdef const char *c_user = _chars(user)
        cdef const char *c_password = _chars(password)
        cdef const char *c_database = _chars(database)
        cdef const char *c_socket = _chars(unix_socket)
        cdef MYSQL *connected
        with nogil:
            connected = mysql_real_connect(
                self.connection, c_host, c_user, c_password, c_database, port, c_socket, 0
            )
        if connected == NULL:
            raise self.error()

    cdef _end(self):
        cdef MYSQL *connection = self.connection
        cdef MYSQL_STMT *statement = self.statement
        self.connection = NULL
        self.statement = NULL
        with nogil:
            if connection != NULL:
                mysql_close(connection)
            if statement != NULL:
                # The statement has no connection any more, so this reads nothing.
                mysql_stmt_close(statement)
        if self.socket != -1:
            close(self.socket)
            self.socket = -1


cdef _set_number(MYSQL *connection, mysql_option option, unsigned int value):
    mysql_options(connection, option, &value)


cdef _set_flag(MYSQL *connection, mysql_option option, my_bool value):
    mysql_options(connection, option, &value)


cdef _set_tls(MYSQL *connection, tls):
    # Always set, because the defaults differ between the library's versions.
    _set_flag(connection, MYSQL_OPT_SSL_ENFORCE, tls is not None)
    _set_flag(connection, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, tls is not None and tls.is_verified)
    if tls is None:
        return
    cdef bytes key = _bytes(tls.key), certificate = _bytes(tls.cert), ca = _bytes(tls.ca)
    cdef bytes folder = _bytes(tls.capath), cipher = _bytes(tls.cipher)
    mysql_ssl_set(
        connection, _chars(key), _chars(certificate), _chars(ca), _chars(folder), _chars(cipher)
    )


cdef bytes _bytes(str text):
    return None if text is None else text.encode(*_ENCODING)


cdef const char *_chars(bytes text) noexcept:
    return NULL if text is None else PyBytes_AS_STRING(text)


cdef _error(unsigned int number, const char *sqlstate, const char *text):
    return MySQLError(
        number or CR_OUT_OF_MEMORY,
        sqlstate.decode("ascii", "replace"),
        text.decode("utf-8", "replace") or "The client is out of memory",
    )


cdef list _names(MYSQL_RES *result):
    cdef MYSQL_FIELD *fields = mysql_fetch_fields(result)
    return [fields[at].name.decode(*_ENCODING) for at in range(mysql_num_fields(result))]


cdef list _rows(MYSQL_RES *result):
    cdef unsigned int columns = mysql_num_fields(result)
    cdef char **row
    cdef unsigned long *lengths
    cdef list rows = []
    while (row := mysql_fetch_row(result)) != NULL:
        lengths = mysql_fetch_lengths(result)
        rows.append(
            tuple([
                None if row[at] == NULL else row[at][:lengths[at]].decode(*_ENCODING)
                for at in range(columns)
            ])
        )
    return rows
