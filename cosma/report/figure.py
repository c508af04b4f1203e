"""Matplotlib figures as bytes: the same figure gives the same bytes."""

import io
import warnings
from typing import Any

_UNSAID = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}  # what would differ between runs


def save(figure: Any, form: str) -> bytes:
    """The figure as png, svg or pdf: no dates in it, fixed ids, and names as they are.

    Characters that no font has are drawn as boxes; a dollar in a name begins no formula.
    """
    import matplotlib
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
    out = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "cosma"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(out, format=form, metadata={_UNSAID[form]: None})
    return out.getvalue()
