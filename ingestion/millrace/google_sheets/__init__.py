"""Google Sheets: the client, values to columns, values to cells, the tab."""
