"""Pack an exported ONNX model, its card, the runtime and the page into one HTML file.

It works offline from any folder, in a browser that opens it from there. Nothing but Python and
onnxruntime-web are needed: `npm ci --ignore-scripts` in this folder brings the latter.

    python deploy/browser/pack.py kermany-mobilenet-v2.onnx kermany.html
"""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIME = HERE / "node_modules" / "onnxruntime-web" / "dist"
SCRIPTS = ("decide.js", "film.js", "model.js", "page.js", "prepare.js")
PLACE = "<!-- what pack.py puts in: model, card, runtime, scripts -->\n"


def packed(onnx: Path, runtime: Path = RUNTIME) -> str:
    """The whole page for an exported model, whose card lies beside it.

    Raises ValueError where the model is not the file that its card speaks of, and OSError where
    a file is missing.
    """
    model, card = onnx.read_bytes(), onnx.with_name(f"{onnx.name}.card.json").read_bytes()
    if hashlib.sha256(model).hexdigest() != json.loads(card)["weights"]["sha256"]:
        raise ValueError(f"{onnx} is not the file that its card speaks of: export it again")
    wasm = (runtime / "ort-wasm-simd-threaded.wasm").read_bytes()
    parts = {"onnx": model, "card": card, "wasm": wasm}
    links = [f'<link rel="model" id="{name}" href="{_url(part)}">' for name, part in parts.items()]
    imports = json.dumps({"imports": _scripts(runtime)})
    links.append(f'<script type="importmap">{imports}</script>')
    page = (HERE / "index.html").read_text(encoding="utf-8")
    return page.replace(PLACE, "".join(f"{link}\n" for link in links))


def _scripts(runtime: Path) -> dict[str, str]:
    """Each script by the name that it is imported by: a data: URL has no folder to look in."""
    bundle = (runtime / "ort.wasm.bundle.min.mjs").read_bytes()
    found = {"onnxruntime-web/wasm": _url(bundle, "text/javascript")}
    for name in SCRIPTS:
        text = re.sub(r'from "\./', 'from "screen/', (HERE / name).read_text(encoding="utf-8"))
        found[f"screen/{name}"] = _url(text.encode(), "text/javascript")
    return found


def _url(content: bytes, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def main() -> None:
    """Write the page, never over another file."""
    if len(sys.argv) != 3:
        sys.exit("usage: python deploy/browser/pack.py MODEL.onnx PAGE.html")
    onnx, page = map(Path, sys.argv[1:])
    try:
        html = packed(onnx)
        with page.open("x", encoding="utf-8") as file:
            file.write(html)
    except (OSError, ValueError) as error:
        sys.exit(f"pack: {error}")


if __name__ == "__main__":
    main()
