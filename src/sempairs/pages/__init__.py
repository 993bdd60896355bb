"""Pages that people read: one renderer, one stylesheet, and pictures that are part of the page.

A page is one file: no script, no request to anywhere, legible on a screen (light or dark), a telephone and
paper. Whoever has something to show keeps a template in a folder `templates` beside the code; the template
extends `base.html`. `gather` collects what a page shows; `render` then reads no disk but the templates.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sempairs import __version__

if TYPE_CHECKING:
    from PIL.Image import Image


def render(
    package: str,
    template: str,
    context: Mapping[str, Any],
    *,
    filters: Mapping[str, Callable[..., Any]] | None = None,
    written: str = "",
) -> str:
    """Return a page as HTML. All text is escaped; a template marks as safe only the figures it was given.

    Args:
        package: The package whose folder `templates` holds the template, such as `sempairs.study`.
        template: File name of the template.
        context: What the template reads. A name that is not there is an error, never an empty text.
        filters: Further filters by name.
        written: When the page was written, in words; "" where the same content must give the same bytes.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("sempairs.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters or {})
    # Globals, not context: macros of `parts.html` and blocks of `base.html` see them too.
    environment.globals |= {"version": __version__, "written": written}
    return environment.get_template(template).render(context)


def data_uri(data: bytes, kind: str) -> str:
    """Return the bytes of a picture as the address of an `img`. kind: "webp", "png" or "jpeg"."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def picture_uri(image: Image, *, quality: int = 80) -> str:
    """Return a picture as the address of an `img`: lossy WebP of `quality` out of 100."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=6)
    return data_uri(buffer.getvalue(), "webp")
