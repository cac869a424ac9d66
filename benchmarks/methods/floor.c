/* The floor: reads a table as MariaDB's C client gives it, row by row, and discards it.

   floor text      the text protocol, unbuffered: what every client has to do at least
   floor binary    the binary protocol of prepared statements

   The job comes from the environment (BENCH_HOST, …). Prints {"rows": …, "bytes": …}. */

#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COLUMNS 64
#define MAX_VALUE 4096

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static unsigned long long rows, bytes;

static void read_text(MYSQL *connection, const char *query)
{
    if (mysql_query(connection, query))
        fail("query", mysql_error(connection));
    MYSQL_RES *result = mysql_use_result(connection);
    if (!result)
        fail("result", mysql_error(connection));
    unsigned int columns = mysql_num_fields(result);
    while (mysql_fetch_row(result)) {
        unsigned long *lengths = mysql_fetch_lengths(result);
        for (unsigned int column = 0; column < columns; column++)
            bytes += lengths[column];
        rows++;
    }
    if (mysql_errno(connection))
        fail("fetch", mysql_error(connection));
    mysql_free_result(result);
}

static void read_binary(MYSQL *connection, const char *query)
{
    static char values[MAX_COLUMNS][MAX_VALUE];
    static unsigned long lengths[MAX_COLUMNS];
    MYSQL_BIND binds[MAX_COLUMNS];
    MYSQL_STMT *statement = mysql_stmt_init(connection);
    if (mysql_stmt_prepare(statement, query, strlen(query)) || mysql_stmt_execute(statement))
        fail("statement", mysql_stmt_error(statement));
    MYSQL_RES *metadata = mysql_stmt_result_metadata(statement);
    unsigned int columns = mysql_num_fields(metadata);
    if (columns > MAX_COLUMNS)
        fail("columns", "too many");
    memset(binds, 0, sizeof binds);
    for (unsigned int column = 0; column < columns; column++) {
        /* Each as the server sends it: no conversion. */
        binds[column].buffer_type = mysql_fetch_field_direct(metadata, column)->type;
        binds[column].buffer = values[column];
        binds[column].buffer_length = MAX_VALUE;
        binds[column].length = &lengths[column];
    }
    mysql_free_result(metadata);
    if (mysql_stmt_bind_result(statement, binds))
        fail("bind", mysql_stmt_error(statement));
    int status;
    while ((status = mysql_stmt_fetch(statement)) == 0 || status == MYSQL_DATA_TRUNCATED) {
        for (unsigned int column = 0; column < columns; column++)
            bytes += lengths[column];
        rows++;
    }
    if (status != MYSQL_NO_DATA)
        fail("fetch", mysql_stmt_error(statement));
    mysql_stmt_close(statement);
}

int main(int count, char **arguments)
{
    char query[512];
    if (count != 2)
        fail("usage", "floor text|binary");
    MYSQL *connection = mysql_init(NULL);
    mysql_options(connection, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    if (!mysql_real_connect(connection, getenv("BENCH_HOST"), getenv("BENCH_USER"),
                            getenv("BENCH_PASSWORD"), getenv("BENCH_DATABASE"),
                            atoi(getenv("BENCH_PORT")), NULL, 0))
        fail("connect", mysql_error(connection));
    snprintf(query, sizeof query, "SELECT * FROM %s", getenv("BENCH_TABLE"));
    if (!strcmp(arguments[1], "text"))
        read_text(connection, query);
    else
        read_binary(connection, query);
    mysql_close(connection);
    printf("{\"rows\": %llu, \"bytes\": %llu}\n", rows, bytes);
    return 0;
}
