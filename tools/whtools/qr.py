"""QR codes for terminals."""

from __future__ import annotations

import io


def as_text(text: str) -> str:
    """In capitals, which make the code smaller; invitations are read in either case."""
    import segno

    out = io.StringIO()
    segno.make(text.upper(), error="l", micro=False).terminal(out, compact=True)
    return out.getvalue().rstrip("\n")
