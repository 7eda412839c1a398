"""What is wrong today, by case and backend: each is expected to fail, and fails the tests once it does not."""

KNOWN: dict[str, str] = {}
KNOWN_TRACES: dict[str, str] = {}
KNOWN_READS: dict[str, str] = {}
