"""The catalogues of translations, brought up to date with the source: `python -m playground.catalogue`.

New texts appear with an empty translation, texts that are gone go. `tests/playground/test_i18n.py` fails until every one is filled in.
"""

import ast
import io
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from pydantic import BaseModel

from core.config import RunConfig
from core.lab.experiments import EXPERIMENTS
from core.messages import MESSAGES
from core.tasks import TASKS
from playground.i18n import LANGUAGES, LOCALE

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("core", "pages", "playground")
SOURCE = "en"

Message = str | tuple[str, str]  # a tuple is singular and plural


def used() -> dict[Message, list[str]]:
    """Every text a person may read, with the files it stands in.

    From calls of `_`, `N_` and `ngettext`, from `template=…` (errors made far from the page), and from what core keeps as
    data: descriptions of settings, messages of the configuration, titles and explanations of
    tasks, the texts of experiments.
    """
    found: dict[Message, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for message in _marked(ast.parse(path.read_text(encoding="utf-8"))):
                _add(found, message, path.relative_to(ROOT).as_posix())
    for part in RunConfig.model_fields.values():
        assert isinstance(part.annotation, type)
        assert issubclass(part.annotation, BaseModel)
        for field in part.annotation.model_fields.values():
            _add(found, field.description or "", "core/config.py")
    for template in MESSAGES.values():
        _add(found, template, "core/messages.py")
    for task in TASKS.values():
        _add(found, task.title, "core/tasks.py")
        _add(found, task.explanation, "core/tasks.py")
    for e in EXPERIMENTS.values():
        for text in (
            e.title,
            e.question,
            e.expect,
            *e.options.values(),
            *e.metrics.values(),
            *(v.label for v in e.variants),
        ):
            _add(found, text, "core/lab/experiments.py")
    return found


def _marked(tree: ast.AST) -> Iterator[Message]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if name in ("_", "N_") and texts:
            yield texts[0]
        elif name == "ngettext" and len(texts) == 2:
            yield texts[0], texts[1]
        for keyword in node.keywords:
            if keyword.arg == "template" and isinstance(keyword.value, ast.Constant):
                yield str(keyword.value.value)


def _add(found: dict[Message, list[str]], message: Message, place: str) -> None:
    text = message if isinstance(message, str) else message[0]
    if any(c.isalpha() for c in text) and place not in found.setdefault(message, []):
        found[message].append(place)


def path(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / "messages.po"


def load(language: str) -> Catalog:
    if not path(language).is_file():
        return Catalog(locale=language)
    with path(language).open("rb") as file:
        return read_po(file, locale=language)


def update(language: str) -> int:
    """Bring one catalogue up to date; returns how many texts still lack a translation."""
    old = load(language)
    new = Catalog(locale=language, project="Transformer Playground", fuzzy=False)
    missing = 0
    for message, places in used().items():
        known = old.get(message if isinstance(message, str) else message[0])
        text = known.string if known is not None and known.id == message else ""
        missing += not (text if isinstance(text, str) else text and all(text))
        new.add(message, text, locations=[(place, 0) for place in places])
    buffer = io.BytesIO()
    write_po(buffer, new, width=120, sort_by_file=True, omit_header=True)
    path(language).parent.mkdir(parents=True, exist_ok=True)
    header = f'msgid ""\nmsgstr ""\n"Language: {language}\\n"\n"Content-Type: text/plain; charset=utf-8\\n"\n"Plural-Forms: {new.plural_forms}\\n"\n\n'
    path(language).write_bytes(header.encode() + buffer.getvalue())
    return missing


if __name__ == "__main__":
    for language in LANGUAGES:
        if language != SOURCE:
            print(f"{path(language).relative_to(ROOT)}: {update(language)} to translate")
