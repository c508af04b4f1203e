"""Matplotlib figures as bytes: the same figure gives the same bytes."""

import io
import warnings
from typing import Any

_UNSAID = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}  # what would differ between runs


def label(name: str) -> str:
    """A name as text of a figure, in which `$` begins no formula."""
    return name.replace("$", r"\$")


def save(figure: Any, form: str) -> bytes:
    """The figure as png, svg or pdf: no dates in it, fixed ids. Characters that no font has are drawn as boxes."""
    import matplotlib

    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cosma"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(out, format=form, metadata={_UNSAID[form]: None})
    return out.getvalue()
