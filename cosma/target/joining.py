"""The nest of two operators that run as one: the tensor between them never exists as a whole.

Either the second follows: it works on each tile that the first has made (Conv, Relu). Or the first precedes: it makes
what the second asks for when it asks (Pad, Conv), again each time. Where neither is clean there is no nest.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from cosma.graph import Operator
from cosma.nest import Access, Axis, Index, Nest, checked


def joined(first: Operator, then: Operator) -> Nest | None:
    """The nest of `first` and `then`, which reads one result of it; None where none is known."""
    common = set(first.outputs) & set(then.inputs)
    if first.nest is None or then.nest is None or len(common) != 1:
        return None
    (between,) = common
    writes = [a for a in first.nest.accesses if a.tensor == between]
    reads = [a for a in then.nest.accesses if a.tensor == between]
    if len(writes) != 1 or not reads:
        return None
    if len(reads) == 1 and _is_identity(then.nest, reads[0]):
        found = _following(first.nest, writes[0], then.nest, reads[0])
        if found is not None:
            return found
    whole = [i for i, axis in enumerate(first.nest.axes) if axis.whole]
    if len(first.outputs) == 1 and _is_identity(first.nest, writes[0], whole):
        return _preceding(first.nest, writes[0], then.nest, reads)
    return None


def _is_identity(nest: Nest, access: Access, others: Collection[int] = ()) -> bool:
    """Whether each axis of the nest, but perhaps for `others`, is an axis of the operand, from end to end."""
    moving = {i for i, axis in enumerate(nest.axes) if axis.extent > 1}
    own = [axis for index in access.indices if index.size > 1 for axis, _ in index.terms]
    full = all(_is_full(nest.axes, index) for index in access.indices)
    return full and not access.lookup and len(set(own)) == len(own) and moving - {*others} <= {*own} <= moving


def _is_full(axes: Sequence[Axis], index: Index) -> bool:
    if index.size == 1:
        return index.offset == 0
    return (
        len(index.terms) == 1
        and index.terms[0][1] == 1
        and index.offset == 0
        and axes[index.terms[0][0]].extent == index.size
    )


def _following(first: Nest, write: Access, then: Nest, read: Access) -> Nest | None:
    """`then` on each tile of the result of `first`: its axes are where that result is written."""
    kept = [a for a in first.accesses if a is not write]
    if _sizes(write) != _sizes(read):
        copies = _copies(then, read, write.indices)
        return None if copies is None else checked(first.axes, _unique([*kept, *copies]))
    place = _places(read, write)
    new = []
    for access in then.accesses:
        if access is not read:
            if not all(not i.terms or _is_full(then.axes, i) for i in access.indices):
                return None
            new.append(_moved(access, place))
    whole = {a for axis, index in place.items() if then.axes[axis].whole for a, _ in index.terms}
    return checked(_whole(first.axes, whole), _unique([*kept, *new]))


def _preceding(first: Nest, write: Access, then: Nest, reads: Sequence[Access]) -> Nest | None:
    """`first` on what `then` asks for: its axes are where `then` reads.

    What `then` asks for outside of the tensor between, its padding, has to be outside of the operands of `first` too.
    """
    new: list[Access] = [a for a in then.accesses if a not in reads]
    own = {axis for index in _real(write) for axis, _ in index.terms}
    more = [i for i, axis in enumerate(first.axes) if axis.extent > 1 and i not in own]  # read as a whole each time
    seen = {i: Index(first.axes[i].extent, ((len(then.axes) + n, 1),)) for n, i in enumerate(more)}
    then = Nest(
        (*then.axes, *(replace(first.axes[i], name=f"{first.axes[i].name}_before") for i in more)), then.accesses
    )
    whole: set[int] = set()
    for read in reads:
        if read.lookup:
            return None
        if _sizes(write) != _sizes(read):
            copies = _copies(first, write, read.indices)
            if copies is None:
                return None
            new += copies
            continue
        place = _places(write, read) | seen
        for access in first.accesses:
            if access is not write:
                if not all(_keeps_outside(first, index, then, place) for index in access.indices):
                    return None
                new.append(_moved(access, place))
        whole |= {a for axis, index in place.items() if first.axes[axis].whole for a, _ in index.terms}
    return checked(_whole(then.axes, whole), _unique(new))


def _keeps_outside(first: Nest, index: Index, then: Nest, place: dict[int, Index]) -> bool:
    """Whether what is outside of the tensor between stays outside of an operand of `first`; or nothing is asked for."""
    if not index.terms or index.size == 1:
        return True
    (axis, stride), *others = index.terms
    if others or axis not in place:
        return False
    asked = place[axis]
    ends = [s * (then.axes[a].extent - 1) for a, s in asked.terms]
    low, high = asked.offset + sum(min(e, 0) for e in ends), asked.offset + sum(max(e, 0) for e in ends)
    if low >= 0 and high < asked.size:
        return True
    return stride == 1 and index.offset <= 0 and first.axes[axis].extent + index.offset >= index.size


def _places(own: Access, other: Access) -> dict[int, Index]:
    """For each axis that indexes `own` by itself, the index that `other` has at the same place."""
    return {index.terms[0][0]: place for index, place in zip(_real(own), _real(other), strict=True)}


def _moved(access: Access, place: dict[int, Index]) -> Access:
    """An access whose axes, each alone in its index, are what `place` has for them."""
    indices = []
    for index in access.indices:
        moving = [(place[axis], stride) for axis, stride in index.terms if axis in place]
        if not moving or index.size == 1:
            indices.append(Index(index.size, (), index.offset if index.size > 1 else 0))
        else:
            [(source, stride)] = moving
            terms = tuple((axis, stride * s) for axis, s in source.terms)
            indices.append(Index(index.size, terms, stride * source.offset + index.offset))
    return replace(access, indices=tuple(indices))


def _copies(nest: Nest, one: Access, indices: tuple[Index, ...]) -> list[Access] | None:
    """The other accesses at these indices, where all of them go through their operands alike, whatever the shape."""
    others = [a for a in nest.accesses if a is not one]
    if any(a.indices != one.indices for a in others) or any(axis.whole for axis in nest.axes):
        return None
    return [replace(a, indices=indices) for a in others]


def _real(access: Access) -> list[Index]:
    """The indices of an operand but for those of axes of one element, which a view may add or take away."""
    return [index for index in access.indices if index.size > 1]


def _sizes(access: Access) -> list[int]:
    return [index.size for index in _real(access)]


def _whole(axes: Sequence[Axis], whole: set[int]) -> list[Axis]:
    return [replace(axis, whole=axis.whole or i in whole) for i, axis in enumerate(axes)]


def _unique(accesses: Iterable[Access]) -> list[Access]:
    return sorted(dict.fromkeys(accesses), key=lambda access: access.written)
