"""The frame of every lab: one panel at a time, three depths, ticks, everything in the URL, prediction before revelation.

A lab is data (`Lab`, `Panel`) and one drawing function a panel; its page is

    ctx = lab_page(LAB)
    ctx.show({"score": score_panel, "softmax": softmax_panel})     # panel id -> f(ctx, p)

    def score_panel(ctx: LabContext, p: PanelView) -> None:
        cell = ctx.url("cell", (0, 0), pair)                       # from the URL, else as it was left, else the default
        …draw…
        if clicked: ctx.put("cell", f"{i},{j}"); p.done()          # the tick: the person has done the thing
        p.numbers(r"\\frac{3.1}{\\sqrt{8}} = 1.1")                   # the formula with this model's numbers
        p.checked(error, _("scores"))                              # largest difference to an independent route
"""

import inspect
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from core.model import Transformer
from core.tasks import Data
from playground import address, fields, models, pick, state
from playground.components import component
from playground.fields import Field
from playground.fields import field as field_of
from playground.i18n import _
from playground.lessons import LABS
from playground.runs.store import Run

T = TypeVar("T")
Kind = (
    Callable[[str], T] | Sequence[T]
)  # reads a text from the URL (ValueError: not one of mine), or all that is allowed

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1e-4  # a larger difference to the independent route is shown in red
DEPTHS = ("idea", "maths", "code")
SHORT = 24  # lines of source that are shown whole
GUESS = re.compile(r"[A-Za-z0-9_.]{1,60}")  # the name of a question, or of an answer, as the browser kept it
MOST_GUESSES = 20


@dataclass(frozen=True)
class Panel:
    """One step of a lab. title, idea, action: English through `N_`. maths: LaTeX. code: objects of core, or (object, *needles).

    The idea is two or three sentences without symbols; the action one sentence: what to do here.
    """

    id: str
    title: str
    idea: str
    maths: str
    code: tuple[Any, ...]
    action: str


@dataclass(frozen=True)
class Lab:
    """id as in `playground.lessons.LABS`; title and intro (one or two sentences) in English through `N_`."""

    id: str
    title: str
    intro: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Mistake:
    """Something that goes wrong in practice: its name, and what to look for. English through `N_`."""

    id: str
    title: str
    look: str


@dataclass
class PanelView:
    """The panel while it is drawn: what its function reports is shown by the frame at the end."""

    panel: Panel
    lab: Lab
    formulas: list[str] = field(default_factory=list)
    checks: list[tuple[float, str, float]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.panel.id

    def done(self) -> None:
        """The person has done the thing: tick."""
        ticks(self.lab.id).add(self.panel.id)

    @property
    def is_done(self) -> bool:
        return self.panel.id in ticks(self.lab.id)

    def numbers(self, latex: str) -> None:
        """The formula with this model's numbers, shown under the formula."""
        self.formulas.append(latex)

    def checked(self, error: float, what: str = "", limit: float = LIMIT) -> None:
        """The largest difference between what is shown and an independent route. Above the limit, or NaN, it is red."""
        self.checks.append((float(error), what, limit))


@dataclass
class LabContext:
    """What a lab works on: the run, the saved step, its model (shared: never change it), its strings, the ids of the input."""

    lab: Lab
    run: Run
    step: int
    model: Transformer
    data: Data
    ids: list[int]
    now: Panel

    @property
    def stamp(self) -> tuple[str, int]:
        """Which weights these are: for what is computed once for them."""
        path = self.run.weights_path(self.step)
        try:
            return str(path), path.stat().st_mtime_ns
        except OSError:
            return str(path), 0

    def url(self, name: str, default: T, kind: Kind[T] | None = None) -> T:
        """A small value of this lab: from the URL, else as it was left, else the default. Without kind: of the default's type."""
        return value(self.lab.id, name, default, kind)

    def put(self, name: str, new: object) -> None:
        """Change a value, also from a callback."""
        put(self.lab.id, name, str(new))

    def field(self, name: str, default: T, kind: Sequence[T]) -> Field[T]:
        """For a widget of this value: make it with the `key` and the default `start`. Then `ctx.keep(name, field, what it
        returned)`."""
        return field_of(f"lab.{self.lab.id}.{name}", self.url(name, default, kind), kind)

    def keep(self, name: str, field: Field[T], chosen: T) -> T:
        """Keep what a widget returned, and put it into the URL. Nothing is sent before both know it: a run may end there."""
        field.told = chosen
        self.put(name, chosen)
        return chosen

    def choose(
        self, name: str, label: str, options: Mapping[str, str], default: str = "", help: str = "", bare: bool = False
    ) -> str:
        """A segmented control over id -> text, in the URL. bare: the label is for screen readers only."""
        field = self.field(name, default or next(iter(options)), tuple(options))
        chosen = st.segmented_control(
            label,
            list(options),
            format_func=lambda o: options[o],
            default=field.start,
            key=field.key,
            required=True,
            help=help or None,
            label_visibility="collapsed" if bare else "visible",
        )
        return self.keep(name, field, field.told if chosen is None else str(chosen))

    def slide(self, name: str, label: str, options: Sequence[T], default: T, help: str = "") -> T:
        """A slider over these values, in the URL."""
        field = self.field(name, default, options)
        return self.keep(name, field, st.select_slider(label, options, field.start, key=field.key, help=help or None))

    def mistakes(self, presets: Sequence[Mistake], name: str = "mistake") -> str | None:
        """ "What goes wrong": one click each; the chosen one says what to look for, and its id is returned."""
        known = {m.id: m for m in presets}
        field = self.field(name, "", ("", *known))
        chosen: str | None = st.pills(
            _("What goes wrong"),
            list(known),
            format_func=lambda m: _(known[m].title),
            default=field.start or None,
            key=field.key,
            help=_(
                "Mistakes that people really make. Click one to see what it does here; click again to take it back."
            ),
        )
        self.keep(name, field, chosen or "")
        if chosen:
            st.warning(_(known[chosen].look), icon=":material/search:")
        return chosen

    @contextmanager
    def panel(self, panel: Panel) -> Iterator[PanelView]:
        """Draw the chosen panel: title, depth, action, then what the caller draws, and above it what the caller reported."""
        view = PanelView(panel, self.lab)
        number = self.lab.panels.index(panel) + 1
        steps = st.container()
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            title = st.container(key="panel_title", width="content").empty()
            depth = self.choose(
                "depth",
                _("How deep"),
                {"idea": _("Idea"), "maths": _("Maths"), "code": _("Code")},
                bare=True,
            )
            proof = st.container(horizontal=True, gap="small")
        text = st.container()
        st.markdown(f"▶ **{_(panel.action)}**")
        try:
            yield view
        finally:
            title.markdown(f"### {number} · {_(panel.title)}" + (" :green[✓]" if view.is_done else ""), width="content")
            with steps:
                pick.notices(self.lab.id, self.run)
                stepper(self.lab, panel)
            with text:
                explain(view, depth)
            with proof:
                prove(view.checks)

    def show(self, draw: Mapping[str, Callable[["LabContext", PanelView], None]]) -> None:
        """Draw the chosen panel with its function."""
        with models.heavy(self.run.config.model), self.panel(self.now) as view:
            draw[self.now.id](self, view)
        del self.model  # callbacks hold on to this context, and must not hold on to the weights

    def __getattr__(self, name: str) -> Any:
        """The model again, should a callback need it."""
        if name != "model":
            raise AttributeError(name)
        return pick.model_at(self.run, self.step)


def lab_page(lab: Lab) -> LabContext:
    """Title, introduction, and in the sidebar run, saved step and input. Stops the page where there is nothing to look at."""
    if wanted := st.session_state.pop("lab.next", None):
        st.switch_page(ROOT / "pages" / f"lab_{wanted}.py")
    st.markdown(f"**{_(lab.title)}** — {_(lab.intro)}")
    with st.sidebar:
        run = pick.choose_run()
        asked = outside(lab.id, "step")
        if asked is not None and (near := pick.nearest_step(run, asked)) is not None:
            fields.ask(f"lab.step.{run.id}", near)
        step = pick.choose_step(run, "lab")
        put(lab.id, "step", str(step))
        if (text := outside(lab.id, "text")) is not None:
            fields.ask(f"lab.source.{run.id}", text)
        ids = pick.source_text(run, "lab")
        put(lab.id, "text", fields.kept(f"lab.source.{run.id}", ""))
    now = value(lab.id, "panel", lab.panels[0].id, [p.id for p in lab.panels])
    put(lab.id, "panel", now)
    if ids is None:
        st.info(_("Type an input on the left: the lab works on it."))
        st.stop()
    pick.refuse_in_labs(run, ids)
    step, model = pick.readable(run, step)
    return LabContext(lab, run, step, model, pick.data_of(run), ids, next(p for p in lab.panels if p.id == now))


def stepper(lab: Lab, now: Panel) -> None:
    """The panels of the lab in a row, ticked where done. The browser keeps the ticks over a reload."""
    key = f"lab.{lab.id}.stepper"
    order = [entry.id for entry in LABS]
    after = LABS[order.index(lab.id) + 1] if lab.id != order[-1] else None

    def go() -> None:
        chosen = st.session_state[key].go
        if chosen in [p.id for p in lab.panels]:
            put(lab.id, "panel", chosen)
        elif chosen == "next lab" and after is not None:
            st.session_state["lab.next"] = after.id

    def remember() -> None:
        told = st.session_state[key].remember  # the browser is outside: anything malformed is ignored
        done, before = (told.get("done"), told.get("guesses")) if isinstance(told, dict) else (told, None)
        ticks(lab.id).update({p.id for p in lab.panels} & set(map(str, done if isinstance(done, list) else [])))
        for question, choice in list(before.items())[:MOST_GUESSES] if isinstance(before, dict) else []:
            if GUESS.fullmatch(str(question)) and GUESS.fullmatch(str(choice)):
                guesses(lab.id).setdefault(str(question), str(choice))
                st.session_state.setdefault(f"predict.{question}", str(choice))

    component("stepper")(
        key=key,
        data={
            "lab": lab.id,
            "now": now.id,
            "panels": [{"id": p.id, "title": _(p.title), "done": p.id in ticks(lab.id)} for p in lab.panels],
            "guesses": guesses(lab.id),
            "t": {
                "label": _("Steps of this lab"),
                "done": _("done"),
                "next_lab": _("Next lab: {title}").format(title=_(after.title)) if after else "",
            },
        },
        on_go_change=go,
        on_remember_change=remember,
    )


def explain(view: PanelView, depth: str) -> None:
    """The text of a panel at one depth."""
    panel = view.panel
    if depth == "idea":
        st.markdown(_(panel.idea))
    elif depth == "maths":
        st.latex(panel.maths)
        for formula in view.formulas:
            st.latex(formula)
        if not view.formulas:
            st.caption(_("The same with this model's numbers appears here as soon as the action below is done."))
    else:
        for item, place in zip(panel.code, st.columns(len(panel.code), gap="small"), strict=True):
            thing, *needles = item if isinstance(item, tuple) else (item,)
            text = source_lines(thing, *needles)
            with place, st.container(gap=None):
                st.caption(where(thing))
                st.code(
                    text,
                    language="python",
                    wrap_lines=len(panel.code) > 1,
                    height=200 if text.count("\n") > 8 else "content",
                )


def prove(checks: Sequence[tuple[float, str, float]]) -> None:
    """ "checked · max error 3e-7", or the same in red."""
    for place, (error, what, limit) in enumerate(checks, 1):
        fine = error <= limit  # False for NaN
        sentence = _("checked · max error {error}") if fine else _("differs · max error {error}")
        size = f"{error:.0e}".replace("e-0", "e-") if math.isfinite(error) and error else f"{error:g}"
        text = f"{'✓' if fine else '✗'} {sentence.format(error=size)}" + (f" · {what}" if what else "")
        st.markdown(
            f":{'green' if fine else 'red'}[{text}]",
            width="content",
            help=_(
                "Everything this panel shows is computed a second time by an independent route; this is the largest difference."
            )
            if place == len(checks)
            else None,
        )


def predict(key: str, question: str, options: Mapping[str, str]) -> str | None:
    """What does the person expect? options: id -> text. The choice stands until they ask to choose again."""
    slot = f"predict.{key}"
    chosen: str | None = st.session_state.get(slot)

    def guess() -> None:
        if (told := st.session_state[f"{slot}.radio"]) is not None:
            st.session_state[slot] = told

    if chosen not in options:
        st.radio(
            question,
            list(options),
            index=None,
            format_func=lambda o: options[o],
            key=f"{slot}.radio",
            on_change=guess,
            help=_("Choose first, look afterwards: a wrong guess is what one remembers."),
        )
        return None
    return chosen


def reveal(key: str, outcome: str, explanation: str, options: Mapping[str, str] | None = None) -> None:
    """Expectation and outcome side by side. outcome: the id of the option that came true, where options are given, or a text."""
    slot = f"predict.{key}"
    chosen, options = str(st.session_state.get(slot, "–")), options or {}
    right = chosen == outcome

    def again() -> None:
        st.session_state.pop(slot, None)
        for known in (st.session_state.get(f"lab.{lab.id}.guesses", {}) for lab in LABS):
            known.pop(key, None)

    with st.container(border=True):
        left, middle, wide, last = st.columns([3, 3, 8, 2], gap="small")
        left.markdown(f"{_('You expected')}  \n{'✓' if right else '✗'} **{options.get(chosen, chosen)}**")
        middle.markdown(f"{_('It came out')}  \n**{options.get(outcome, outcome)}**")
        wide.markdown(explanation)
        last.button(  # below the text it would make the box higher by a line
            _("Choose again"), key=f"{slot}.again", type="tertiary", on_click=again
        )


def source_lines(thing: Any, *needles: str) -> str:
    """The real source of an object of core: the lines with the needles, in their order, or all of it. ValueError: none there."""
    lines = textwrap.dedent(inspect.getsource(plain(thing))).rstrip().splitlines()
    if not needles:
        return "\n".join(lines if len(lines) <= SHORT else [*lines[:SHORT], "…"])
    found = [line for line in lines if any(needle in line for needle in needles)]
    for needle in needles:
        if not any(needle in line for line in lines):
            raise ValueError(f"{needle!r} is not in the source of {thing}")
    return textwrap.dedent("\n".join(found))


def plain(thing: Any) -> Any:
    """The function behind a property or a decorator."""
    if isinstance(thing, property):
        thing = thing.fget
    return inspect.unwrap(thing)


def where(thing: Any) -> str:
    """File, line and name of an object, as a person would look for it."""
    thing = plain(thing)
    path = Path(inspect.getsourcefile(thing) or "").resolve()
    place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    return f"{place}:{inspect.getsourcelines(thing)[1]} · {thing.__qualname__}"


def ticks(lab_id: str) -> set[str]:
    """Which panels of a lab this person has done."""
    done: set[str] = st.session_state.setdefault(f"lab.{lab_id}.done", set())
    return done


def guesses(lab_id: str) -> dict[str, str]:
    """What this person expects of the experiments of a lab: question -> choice. The browser keeps it over a reload."""
    found: dict[str, str] = st.session_state.setdefault(f"lab.{lab_id}.guesses", {})
    return found


def kept(lab_id: str) -> dict[str, str]:
    """The values of a lab in this session: they outlive the page, as its URL does not."""
    values: dict[str, str] = st.session_state.setdefault(f"lab.{lab_id}.kept", {})
    return values


def outside(lab_id: str, name: str) -> str | None:
    """The value of the URL, if this page did not write it there itself."""
    asked: str | None = st.query_params.get(name)
    if asked is None or asked == kept(lab_id).get(name) or len(asked) > address.LONGEST:
        return None
    return asked


def value(lab_id: str, name: str, default: T, kind: Kind[T] | None = None) -> T:
    """See LabContext.url."""
    asked = outside(lab_id, name)
    if asked is not None:
        try:
            found = parse(asked, default, kind)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError):
            state.notice_bad_url(name)
        else:
            put(lab_id, name, asked)
            return found
    try:
        found = parse(kept(lab_id)[name], default, kind)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError):
        put(lab_id, name, written(default))
        return default
    put(lab_id, name, kept(lab_id)[name])
    return found


def written(thing: object) -> str:
    return ",".join(map(str, thing)) if isinstance(thing, tuple) else str(thing)


def parse(text: str, default: T, kind: Kind[T] | None) -> T:
    """A value from its text. Raises ValueError."""
    if kind is None:
        if isinstance(default, bool):
            return {"True": True, "False": False}[text]  # type: ignore[return-value]
        read: T = type(default)(text)  # type: ignore[call-arg]
        if isinstance(read, float) and not math.isfinite(read):
            raise ValueError(text)
        return read
    if callable(kind):
        return kind(text)
    return {written(option): option for option in kind}[text]


def pair(text: str) -> tuple[int, int]:
    """ "2,3" -> (2, 3): a cell."""
    if len(text) > 12:
        raise ValueError(text)
    row, column = map(int, text.split(","))
    return row, column


def put(lab_id: str, name: str, text: str) -> None:
    """Keep a value and write it to the URL, unless another page is open."""
    kept(lab_id)[name] = text
    address.put({name: text})
