"""Files of rosbag2's sqlite3 storage, of all versions of its tables."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from .channels import Channel

MAGIC = b"SQLite format 3\0"
DAMAGED = "messages lost: the database is damaged from there on"


class SqliteFile:
    """See ``BagFile``."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError: the tables of a bag are not in it."""
        self.lost: Counter[str] = Counter()
        try:
            self._open(path)
        except sqlite3.Error as error:
            self.close()
            raise ValueError(
                f"no bag can be read from the database ({error}): try `sqlite3 {path.name} .recover` into a new one, "
                "then `ros2 bag reindex`"
            ) from error

    def _open(self, path: Path) -> None:
        # Without the mark that nobody writes: what a killed recorder left in the write-ahead log is read, too.
        for mode in ("mode=ro", "mode=ro&immutable=1"):
            self._connection = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True)
            self._connection.text_factory = lambda data: data.decode(errors="replace")
            try:
                self._connection.execute("SELECT count(*) FROM topics")
                break
            except sqlite3.OperationalError as error:
                if mode.endswith("1") or "no such table" in str(error):
                    raise
                self._connection.close()
        execute = self._connection.execute
        definitions = {}
        if execute("SELECT name FROM sqlite_master WHERE name = 'message_definitions'").fetchone():
            rows = execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
            definitions = {kind: (text, language) for kind, language, text in rows}
        self.channels = {
            number: Channel(topic, kind, encoding, *definitions.get(kind, ("", "")))
            for number, topic, kind, encoding in execute("SELECT id, name, type, serialization_format FROM topics")
        }
        self.counts = Counter(dict(execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id")))
        times = execute("SELECT min(timestamp), max(timestamp) FROM messages").fetchone()
        self.start_ns, self.end_ns = (time or 0 for time in times)

    def close(self) -> None:
        self._connection.close()

    def messages(self, wanted: set[int]) -> Iterator[tuple[int, int, bytes | memoryview]]:
        """See ``BagFile``."""
        marks = ", ".join("?" * len(wanted))
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) ORDER BY timestamp"
        try:
            yield from self._connection.execute(query, tuple(wanted))
        except sqlite3.DatabaseError:
            self.lost[DAMAGED] += 1
