"""What is wrong today, by case: each is expected to fail, and fails the tests once it does not."""

KNOWN: dict[str, str] = {}
KNOWN_TRACES: dict[str, str] = {}
KNOWN_READS: dict[str, str] = {}
KNOWN_CONTEXTS: dict[str, str] = {}
