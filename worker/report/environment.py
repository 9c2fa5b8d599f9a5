"""Templates become pages that load nothing, run no foreign script and escape every value."""

import base64
import hashlib
from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from worker.assets import asset
from worker.errors import advice_for
from worker.report import text, wording

_STYLE = "style.css"
_THEME_SCRIPT = "theme.js"


def render(
    template: str, /, scripts: tuple[str, ...] = (), *, served: bool = False, **context: object
) -> str:
    """Render a page of `templates/` with its style and scripts inlined and hashed in its policy.

    `scripts` are names of files in `templates/`. Strings are made printable and escaped; an
    unknown name in a template raises jinja2.UndefinedError. Every page can be written as UTF-8.
    A page that is `served` may ask the server it came from, and leads to its other rooms.
    """
    names = (_THEME_SCRIPT, *scripts)
    return (
        _environment()
        .get_template(template)
        .render(
            context,
            style=_source(_STYLE),
            theme_script=_source(_THEME_SCRIPT),
            scripts=[_source(name) for name in scripts],
            policy=_policy(names, served),
            caveat=wording.CAVEAT,
            served=served,
        )
    )


def render_piece(template: str, /, **context: object) -> str:
    """Render what stands within a page: no policy, no style, no script."""
    return _environment().get_template(template).render(context)


def data_uri(media_type: str, data: bytes) -> Markup:
    """A picture inside its page; the media type is ours, base64 needs no escaping."""
    encoded = base64.b64encode(data).decode("ascii")
    return Markup(f"data:{media_type};base64,{encoded}")  # noqa: S704 — nothing to escape


@cache  # compiled templates: a page costs a tenth when they are kept
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(asset("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=text.finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "advice": advice_for,
        "duration": text.duration,
        "filename": text.filename,
        "folder": text.folder,
        "iso": text.iso,
        "score": text.score,
        "sentence": text.sentence,
        "short": text.short,
        "utc": text.utc,
        "words": text.words,
    }
    return environment


@cache
def _source(name: str) -> Markup:
    return Markup((asset("templates") / name).read_text(encoding="utf-8"))  # noqa: S704 — shipped


def _policy(scripts: tuple[str, ...], served: bool) -> str:
    """The page's Content-Security-Policy: pictures from data: URIs, our own style and scripts."""
    own = ("connect-src 'self'", "form-action 'self'") if served else ("form-action 'none'",)
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src {_hash(_STYLE)}",
            f"script-src {' '.join(map(_hash, scripts))}",
            "base-uri 'none'",
            *own,
        )
    )


def _hash(name: str) -> str:
    digest = hashlib.sha256(_source(name).encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
