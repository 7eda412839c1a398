"""How results look in a notebook: small tables without scripts or styles of their own."""

import html
from collections.abc import Iterable, Sequence


def html_table(title: str, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Return a table as HTML, with everything in it escaped.

    Parameters
    ----------
    title : str
        What stands above it.
    rows : iterable of sequence
        The cells of each row; the first names the row.
    head : sequence of str
        The names of the columns, if they have any.
    """
    body = "".join(_row(row, "td") for row in rows)
    names = f"<thead>{_row(head, 'th')}</thead>" if head else ""
    caption = f'<caption style="caption-side: top; text-align: left">{html.escape(title)}</caption>'
    return f"<table>{caption}{names}<tbody>{body}</tbody></table>"


def _row(cells: Sequence[object], kind: str) -> str:
    first, *rest = (html.escape(str(cell)) for cell in cells)
    left = ' style="text-align: left"'
    return f"<tr><th{left}>{first}</th>{''.join(f'<{kind}{left}>{cell}</{kind}>' for cell in rest)}</tr>"
