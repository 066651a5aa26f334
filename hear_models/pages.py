"""HTML pages of one file that ask nobody for anything: a template filled once, and a policy against all else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from typing import Any


def fill(template: str, parts: Mapping[str, str]) -> str:
    """Every @@NAME@@ once; text that was put in is not looked at again."""
    pieces = template.split("@@")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def policy(style: str, script: str, *also: str) -> str:
    """A content security policy, ready for an attribute: this style, this script, pictures as data, and `also`."""
    rules = ("default-src 'none'", f"style-src {_hash(style)}", f"script-src {_hash(script)}", "img-src data:")
    return escape("; ".join((*rules, *also, "base-uri 'none'", "form-action 'none'")), quote=True)


def data_element(name: str, content: Any) -> str:
    """JSON as an element that scripts read by its id, and that no text in it can end or make run."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return f'<script type="application/json" id="{escape(name, quote=True)}">{text}</script>'


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
