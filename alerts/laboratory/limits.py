"""How much of a sheet is read."""

MAX_SHEET_BYTES = 2 * 1024 * 1024  # of the file
MAX_UNPACKED = 32 * 1024 * 1024  # of all its parts together
MAX_PARTS = 200
MAX_ROWS, MAX_COLUMNS = 2_000, 600
