"""A stand-in for the Google Sheets API, on loopback and in a process of its own."""
