"""The used part of MariaDB's C client library, and the connection that two modules share."""

cdef extern from "mysql.h" nogil:
    ctypedef char my_bool
    ctypedef struct NET:
        unsigned char *buff_end
    ctypedef struct MYSQL:
        NET net
    ctypedef struct MYSQL_RES:
        pass
    ctypedef struct MYSQL_STMT:
        pass
    ctypedef struct MYSQL_FIELD:
        char *name
        unsigned int flags
        unsigned int decimals
        int type
    cdef enum mysql_option:
        MYSQL_OPT_CONNECT_TIMEOUT
        MYSQL_OPT_LOCAL_INFILE
        MYSQL_OPT_READ_TIMEOUT
        MYSQL_OPT_WRITE_TIMEOUT
        MYSQL_OPT_SSL_VERIFY_SERVER_CERT
        MYSQL_OPT_SSL_ENFORCE
        MYSQL_PLUGIN_DIR
        MYSQL_SET_CHARSET_NAME
    cdef enum enum_stmt_attr_type:
        STMT_ATTR_CB_USER_DATA
        STMT_ATTR_CB_RESULT
    cdef enum:
        MYSQL_NO_DATA
        UNSIGNED_FLAG
        MYSQL_TYPE_TINY
        MYSQL_TYPE_SHORT
        MYSQL_TYPE_LONG
        MYSQL_TYPE_INT24
        MYSQL_TYPE_LONGLONG
        MYSQL_TYPE_YEAR
        MYSQL_TYPE_FLOAT
        MYSQL_TYPE_DOUBLE
        MYSQL_TYPE_NEWDECIMAL
        MYSQL_TYPE_DATE
        MYSQL_TYPE_DATETIME
        MYSQL_TYPE_TIMESTAMP
        MYSQL_TYPE_TIME

    int mysql_server_init(int count, char **arguments, char **groups)
    MYSQL *mysql_init(MYSQL *connection)
    int mysql_options(MYSQL *connection, mysql_option option, const void *value)
    my_bool mysql_ssl_set(
        MYSQL *connection, const char *key, const char *certificate, const char *ca,
        const char *ca_folder, const char *cipher
    )
    MYSQL *mysql_real_connect(
        MYSQL *connection, const char *host, const char *user, const char *password,
        const char *database, unsigned int port, const char *socket, unsigned long flags
    )
    int mysql_get_socket(MYSQL *connection)
    const char *mysql_get_ssl_cipher(MYSQL *connection)
    unsigned int mysql_errno(MYSQL *connection)
    const char *mysql_error(MYSQL *connection)
    const char *mysql_sqlstate(MYSQL *connection)
    unsigned long mysql_real_escape_string(
        MYSQL *connection, char *escaped, const char *text, unsigned long length
    )
    void mysql_close(MYSQL *connection)

    int mysql_real_query(MYSQL *connection, const char *statement, unsigned long length)
    MYSQL_RES *mysql_store_result(MYSQL *connection)
    unsigned int mysql_num_fields(MYSQL_RES *result)
    MYSQL_FIELD *mysql_fetch_fields(MYSQL_RES *result)
    char **mysql_fetch_row(MYSQL_RES *result)
    unsigned long *mysql_fetch_lengths(MYSQL_RES *result)
    void mysql_free_result(MYSQL_RES *result)

    MYSQL_STMT *mysql_stmt_init(MYSQL *connection)
    my_bool mysql_stmt_attr_set(
        MYSQL_STMT *statement, enum_stmt_attr_type attribute, const void *value
    )
    int mysql_stmt_prepare(MYSQL_STMT *statement, const char *query, unsigned long length)
    int mysql_stmt_execute(MYSQL_STMT *statement)
    unsigned int mysql_stmt_field_count(MYSQL_STMT *statement)
    MYSQL_FIELD *mariadb_stmt_fetch_fields(MYSQL_STMT *statement)
    int mysql_stmt_fetch(MYSQL_STMT *statement)
    unsigned int mysql_stmt_errno(MYSQL_STMT *statement)
    const char *mysql_stmt_error(MYSQL_STMT *statement)
    const char *mysql_stmt_sqlstate(MYSQL_STMT *statement)
    my_bool mysql_stmt_close(MYSQL_STMT *statement)


cdef class Client:
    cdef MYSQL *connection
    # The statement of the result that was begun last. It is freed after its connection, or when the
    # result is at its end: to free it earlier would read the rest of the result.
    cdef MYSQL_STMT *statement
    # Whether that result is not at its end.
    cdef bint is_reading
    # Whether a thread is inside the library, which allows one at a time.
    cdef bint is_busy
    # A descriptor of our own for the socket: the library may close its own at any time.
    cdef int socket

    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cdef int execute(self, str query) except -1
    cdef error(self)
    cdef _end(self)
