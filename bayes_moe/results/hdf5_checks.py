"""Checks of an HDF5 file before any of its values is read: links, types, storage and sizes.

A file that fails a check could make the reader open other files, load a filter, follow a circle of
groups, or allocate much more memory than the file is long.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

MOST_GROUPS = 300
MOST_VARIABLES = 5000
MOST_LEVELS = 8
"""Bounds of what a file may hold: groups, variables, and groups within groups."""

MOST_ATTRIBUTES = 200
"""Attributes of one group or variable."""

SMALL = 2**16
"""Bytes that an attribute, or a chunk of a variable, may have in a file of any length."""

REFERENCE = np.dtype([("length", "<u4"), ("place", "V12")])
"""What a variable of strings stores for each: its length, and where it is."""

NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable."
"""Begins the name of a dimension without labels, whose values are never read."""

MOST_LINKS = {"DIMENSION_LIST": 16, "REFERENCE_LIST": 16 * MOST_VARIABLES}
"""Attributes that link variables and their dimensions, of types of their own, and their length."""


class LayoutError(ValueError):
    """A part of an HDF5 file that no saved fit has; the message names it."""


def check_layout(path: Path) -> None:
    """Raise :class:`LayoutError` unless a file has only parts that a saved fit may have.

    Values of variables are not read. The variables together may not be longer than the file, so
    neither compressed ones nor ones whose values are not stored are possible.
    """
    import h5py

    length = path.stat().st_size
    with h5py.File(path, "r") as file:
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise LayoutError("its addresses have another length than 8 bytes")
        declared = text = attributes = variables = 0
        for name, item in _items(file):
            attributes += _attribute_bytes(name, item, length)
            if attributes > length + SMALL:
                raise LayoutError(f"the attributes up to {name!r} are longer than the file")
            if isinstance(item, h5py.h5g.GroupID):
                continue
            variables += 1
            if variables > MOST_VARIABLES:
                raise LayoutError(f"it has more than {MOST_VARIABLES} variables")
            size = _variable_bytes(name, item)
            if _is_bare_dimension(item):
                continue
            declared += size
            if declared > length:
                raise LayoutError(
                    f"with {name!r} its variables declare {declared} bytes, but the file has "
                    f"{length}"
                )
            _check_chunks(name, item, size, length)
            text += _text_bytes(name, item, path, length)
            if text > length:
                raise LayoutError(f"the text up to {name!r} is longer than the file")


def _items(file: Any) -> Iterator[tuple[str, Any]]:
    """Path and identifier of every group and variable, each group before what is in it."""
    from h5py import h5g, h5o

    root = h5g.open(file.id, b"/")
    waiting, seen, groups = [("", root, 0)], {h5o.get_info(root).addr}, 1
    while waiting:
        path, group, level = waiting.pop()
        yield path or "/", group
        if group.get_num_objs() > MOST_VARIABLES + MOST_GROUPS:
            raise LayoutError(f"the group {path or '/'!r} has more than {MOST_VARIABLES} variables")
        for link in group:
            name = f"{path}/{link.decode(errors='replace')}"
            item = _linked(name, group, link)
            address = h5o.get_info(item).addr
            if address in seen:
                raise LayoutError(f"{name!r} is a second name of another part")
            seen.add(address)
            if not isinstance(item, h5g.GroupID):
                yield name, item
                continue
            groups += 1
            if groups > MOST_GROUPS or level + 1 > MOST_LEVELS:
                raise LayoutError(
                    f"it has more than {MOST_GROUPS} groups, or more than {MOST_LEVELS} within "
                    f"each other, at {name!r}"
                )
            waiting.append((name, item, level + 1))


def _linked(name: str, group: Any, link: bytes) -> Any:
    """Group or variable that a link of a group leads to."""
    from h5py import h5d, h5g, h5l, h5o

    if group.links.get_info(link).type != h5l.TYPE_HARD:
        raise LayoutError(f"{name!r} is a link to another place or file")
    item = h5o.open(group, link)
    if not isinstance(item, h5g.GroupID | h5d.DatasetID):
        raise LayoutError(f"{name!r} is neither a group nor a variable")
    return item


def _variable_bytes(name: str, variable: Any) -> int:
    """Declared bytes of a variable of an allowed type, whose values are in the file itself."""
    from h5py import h5d, h5z

    plan = variable.get_create_plist()
    if plan.get_external_count():
        raise LayoutError(f"the values of {name!r} are in another file")
    if plan.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED):
        raise LayoutError(f"{name!r} is a view of other variables or files")
    filters = {plan.get_filter(j)[0] for j in range(plan.get_nfilters())}
    if filters - {h5z.FILTER_FLETCHER32}:
        raise LayoutError(f"{name!r} is compressed or filtered; a saved fit has checksums only")
    return _bytes(f"the variable {name!r}", variable.get_type(), variable.get_space())


def _bytes(what: str, stored: Any, space: Any) -> int:
    """Declared bytes of values of a stored type; strings count as the references to them."""
    from h5py import h5s, h5t

    kind, size = stored.get_class(), stored.get_size()
    if kind == h5t.STRING:
        size = REFERENCE.itemsize if stored.is_variable_str() else size
    elif kind not in (h5t.INTEGER, h5t.FLOAT) or size not in (1, 2, 4, 8):
        raise LayoutError(f"{what} holds neither numbers nor text")
    return 0 if space.get_simple_extent_type() == h5s.NULL else prod(space.shape) * size


def _is_bare_dimension(variable: Any) -> bool:
    """Whether a variable only states the length of a dimension."""
    import h5py

    name = h5py.Dataset(variable).attrs.get("NAME", b"")
    return NO_VARIABLE in (name.encode(errors="replace") if isinstance(name, str) else bytes(name))


def _check_chunks(name: str, variable: Any, size: int, length: int) -> None:
    """Raise :class:`LayoutError` for chunks that are very many, or longer than the variable."""
    from h5py import h5d

    plan = variable.get_create_plist()
    if plan.get_layout() != h5d.CHUNKED:
        return
    chunk = plan.get_chunk()
    if prod(chunk) * variable.get_type().get_size() > max(size, SMALL):
        raise LayoutError(f"a chunk of {name!r} is longer than the variable")
    count = prod(ceil(n / c) for n, c in zip(variable.shape, chunk, strict=True))
    if count > 1000 + length // 1024:
        raise LayoutError(f"{name!r} has {count} chunks")


def _text_bytes(name: str, variable: Any, path: Path, length: int) -> int:
    """Bytes of the text of a variable, from the references to its strings; 0 for other types."""
    from h5py import h5d, h5t

    stored = variable.get_type()
    count = prod(variable.shape)
    if stored.get_class() != h5t.STRING or not stored.is_variable_str() or not count:
        return 0
    start = variable.get_offset()
    if variable.get_create_plist().get_layout() != h5d.CONTIGUOUS or start is None:
        raise LayoutError(f"the text of {name!r} is not stored in one piece")
    references = np.fromfile(path, REFERENCE, count=count, offset=start)
    return int(references["length"].sum(dtype=np.uint64))


def _attribute_bytes(name: str, item: Any, length: int) -> int:
    """Bytes of the attributes of a group or variable, all of allowed types."""
    import h5py
    from h5py import h5a, h5t

    count = h5a.get_num_attrs(item)
    if count > MOST_ATTRIBUTES:
        raise LayoutError(f"{name!r} has {count} attributes")
    total = 0
    for j in range(count):
        attribute = h5a.open(item, index=j)
        label = attribute.name.decode(errors="replace")
        what, space = f"the attribute {label!r} of {name!r}", attribute.get_space()
        most = min(length, MOST_LINKS[label]) if label in MOST_LINKS else length
        if prod(space.shape or ()) > most:
            raise LayoutError(f"{what} has more than {most} values")
        if label in MOST_LINKS:
            continue
        stored = attribute.get_type()
        size = _bytes(what, stored, space)
        if stored.get_class() == h5t.STRING and stored.is_variable_str() and size:
            # One long text could be the value of every string.
            if size // REFERENCE.itemsize > max(1, 2**24 // length):
                raise LayoutError(f"{what} has {size // REFERENCE.itemsize} texts")
            value = h5py.AttributeManager(_high_level(item))[label]
            size = sum(len(text) for text in np.ravel(value))
        if size > length:
            raise LayoutError(f"{what} is longer than the file")
        total += size
    return total


def _high_level(item: Any) -> Any:
    import h5py

    return h5py.Group(item) if isinstance(item, h5py.h5g.GroupID) else h5py.Dataset(item)
