"""A table of a model's modules and the parameters they hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fusedrnn._core.parameter import Parameter


def summary(model: object, rows: Iterable[tuple[str, str, Iterator[Parameter]]]) -> str:
    """The text of `Module.summary`.

    Args:
        model: for its name.
        rows: of each module its name in the model, its description and its own parameters.
    """
    seen: set[int] = set()
    table = [("name", "module", "parameters", "bytes")]
    total, total_bytes = 0, 0
    for name, description, parameters in rows:
        new = [p for p in parameters if id(p) not in seen]  # one that two modules share counts once
        seen.update(map(id, new))
        size, nbytes = sum(p.size for p in new), sum(p.size * p.dtype.itemsize for p in new)
        table.append((name, description, f"{size:,}", f"{nbytes:,}"))
        total, total_bytes = total + size, total_bytes + nbytes
    table.append(("", f"{type(model).__name__} in all", f"{total:,}", f"{total_bytes:,}"))
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = [
        f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip()
        for a, b, c, d in table
    ]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
