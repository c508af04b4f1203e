"""Matplotlib figures as bytes: the same figure gives the same bytes."""

import io
from typing import Any

_UNSAID = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}  # what would differ between runs


def save(figure: Any, form: str) -> bytes:
    """The figure as png, svg or pdf: no dates in it, and fixed ids."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cosma"}):
        figure.savefig(out, format=form, metadata={_UNSAID[form]: None})
    return out.getvalue()
