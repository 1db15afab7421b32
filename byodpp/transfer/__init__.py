"""Files of rows: imports and exports as streams.

In: `records` takes a file apart (`csv_records`, `ndjson_records`, …; `cells` reads what is only text),
`judging` lets the API's own schemas judge each record and writes the good ones as COPY takes them,
`chunks` runs both in a process of their own where a file is large (`worker`, `messages`), `progress`
remembers in the database how far an import has come, and `imports` writes the rows. Out: `exports`
streams one snapshot, in a `form` that PostgreSQL has written. Nothing here knows HTTP.
"""

from __future__ import annotations
