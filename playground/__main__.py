"""`python -m playground train|resume|branch|runs|export|import|delete`: the same runs, without a browser. `serve`: for a class."""

import argparse
import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from core.config import ModelConfig, RunConfig, TaskConfig, TrainConfig
from core.files import open_plain
from core.messages import ConfigError, Problem
from core.read import MAX_JSON_BYTES, build, fit, read
from playground import differences
from playground.i18n import N_, _
from playground.pairs import MAX_BYTES, PairsError, parse
from playground.presets import PRESETS
from playground.runs import branches, changes, files, store, stretches, trash
from playground.runs.log import last_exact_match
from playground.runs.store import Run
from playground.settings import names, words
from playground.settings.recipes import RECIPES, settings_for
from playground.text import duration

if TYPE_CHECKING:
    from core.train import StepRecord

SECTIONS: dict[str, type[BaseModel]] = {"model": ModelConfig, "task": TaskConfig, "train": TrainConfig}
FAILED, BAD_CONFIGURATION, INTERRUPTED, UNREAD = 1, 2, 130, 141
MOST_THREADS = max(256, os.cpu_count() or 1)
SMALL = 1_000_000  # parameters; below that a second thread gains a quarter at best, and loses tenfold on a busy machine

NO_PRESET = N_("There is no preset {name}. There are: {names}.")
UNKNOWN = N_("There is no run {name}. The command runs lists them.")
NOT_MORE = N_("The run {id} has {steps} steps already.")
AT_WORK = N_("Another process trains the run {id}.")
LINKED = N_("The run {id} is a link to another folder. A run is trained only in a folder of its own.")
AMBIGUOUS = N_("{n} runs begin with {name}. Give more of the id.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows its number
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            options = parser().parse_args(arguments)
            command: Callable[[argparse.Namespace], int] = options.command
            return command(options)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `runs | head`: nobody reads any further, which is no fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left when it ends
        return UNREAD
    except ConfigError as error:
        for problem in error.problems:
            said, place = _(problem.template).format(**problem.values), where(problem.loc, options)
            print(f"{place}: {said}" if place else said, file=sys.stderr)
        return BAD_CONFIGURATION
    except PairsError as error:
        print(f"{where('task.pairs', options)}: {error.sentence}", file=sys.stderr)
        return BAD_CONFIGURATION
    except store.RunError as error:
        print(_(error.template).format(**error.values), file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else str(error), file=sys.stderr)
        return FAILED


def parser() -> argparse.ArgumentParser:
    """All commands and options. Those of `train` are made from the configuration's fields, with their help."""
    top = argparse.ArgumentParser(
        prog="python -m playground",
        description=_(
            "Train Transformers and keep their runs, without a browser. Runs are folders in ./runs, or in $PLAYGROUND_RUNS."
        ),
    )
    commands = top.add_subparsers(required=True, metavar=_("command"))

    def command(name: str, run: Callable[[argparse.Namespace], int], help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, description=help_text)
        made.set_defaults(command=run)
        return made

    command_train = command("train", train, _("Train a new run here, in this terminal. Ctrl-C saves and ends."))
    start = command_train.add_argument_group(_("Where the settings come from, later ones first"))
    names = ", ".join(f"{slug(preset.name)} ({_(preset.name)})" for preset in PRESETS)
    start.add_argument("--preset", metavar="NAME", help=literal(_("Start from a preset: {names}.").format(names=names)))
    start.add_argument(
        "--config", type=Path, metavar="FILE", help=_("Start from a JSON file: settings, or the run.json of a run.")
    )
    add_settings(command_train)
    command_train.add_argument("--name", default="", help=_("What to call the run in lists."))
    resume_parser = command(
        "resume", resume, _("Go on with a run that was stopped, interrupted or paused, or train it for more steps.")
    )
    resume_parser.add_argument(
        "--steps", type=count, metavar="N", help=_("Steps of the run in all, if it shall have more than it had.")
    )
    branch_parser = command(
        "branch", branch, _("Train a new run that begins with the weights of another, with settings of its own.")
    )
    branch_parser.add_argument(
        "--step", type=count, metavar="N", help=_("Begin at this saved step of the other run; without it, the newest.")
    )
    add_settings(branch_parser, inherited=True)
    branch_parser.add_argument("--name", default="", help=_("What to call the run in lists."))
    for made in (command_train, resume_parser, branch_parser):
        made.add_argument(
            "--pace",
            type=pace,
            metavar="N",
            help=_("Train slowly: so many steps a second, 1, 5 or 20 for example; full for full speed."),
        )
        made.add_argument(
            "--threads", type=threads, metavar="N", help=_("CPU threads; all cores by default, one for small models.")
        )
        made.add_argument("--quiet", action="store_true", help=_("No progress bar."))
    listing = command("runs", list_runs, _("List the runs, newest first."))
    listing.add_argument("--all", action="store_true", help=_("All of them, not only the newest 30."))
    exporting = command("export", export, _("Write a run as one zip file."))
    importing = command("import", import_, _("Add a run from a zip file that export wrote."))
    deleting = command("delete", delete, _("Delete a run. For a day, restore brings it back."))
    restoring = command("restore", restore, _("Bring back a run that was deleted within the last day."))
    restoring.add_argument(
        "run", metavar="ID", nargs="?", default="", help=_("The run's id; without it, what there is.")
    )
    deleting.add_argument("--yes", action="store_true", help=_("Do not ask."))
    from playground import serve

    serve.add_options(command("serve", serve.serve, _("Serve the app to a class in the same network.")))
    for made in (resume_parser, branch_parser, exporting, deleting):
        made.add_argument("run", metavar="ID", help=_("A run's id, or its beginning, or: last."))
    exporting.add_argument("file", type=Path, metavar="FILE.zip")
    exporting.add_argument("--force", action="store_true", help=_("Replace a file of that name."))
    importing.add_argument("file", type=Path, metavar="FILE.zip")
    return top


def threads(text: str) -> int:
    """Raises ArgumentTypeError for what torch takes as no number of threads, or what a computer cannot start."""
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST_THREADS:
        return int(text)
    raise argparse.ArgumentTypeError(_("a whole number from 1 to {most} is needed.").format(most=MOST_THREADS))


def count(text: str) -> int:
    """A number of steps. Raises ArgumentTypeError."""
    if text.isascii() and text.isdigit() and len(text) < 8 and int(text) <= stretches.MOST_STEPS:
        return int(text)
    raise argparse.ArgumentTypeError(_("a whole number from 0 to {most} is needed.").format(most=stretches.MOST_STEPS))


def pace(text: str) -> float:
    """Steps a second; 0 for full speed. Raises ArgumentTypeError."""
    low, high = store.PACES
    found = value(text)
    if text == "full":
        return 0.0
    if isinstance(found, int | float) and low <= found <= high:
        return float(found)
    raise argparse.ArgumentTypeError(_("a number from {low} to {high}, or full, is needed.").format(low=low, high=high))


def add_settings(made: argparse.ArgumentParser, inherited: bool = False) -> None:
    """An option for each setting; `inherited`: what is not given is as in another run."""
    for section, model in SECTIONS.items():
        group = made.add_argument_group(section)
        for name, field in model.model_fields.items():
            if not (inherited and f"{section}.{name}" in branches.FIXED):
                add_field(group, f"{section}.{name}", field, inherited)


def add_field(group: Any, loc: str, field: FieldInfo, inherited: bool = False) -> None:
    """One option for one field. Values are checked by the configuration, so that its sentences are the only ones."""
    parts = [_(field.description or "")]
    settings: dict[str, Any] = {"dest": loc, "default": None}
    if loc == "task.pairs":
        settings |= {"metavar": "FILE.csv", "type": Path}
    elif field.annotation is bool:
        settings["action"] = argparse.BooleanOptionalAction
    elif get_origin(field.annotation) is Literal:
        settings["metavar"] = "NAME"
        parts.append(_("One of: {names}.").format(names=", ".join(get_args(field.annotation))))
    else:
        settings |= {"metavar": "N" if field.annotation is int else "X", "type": value}
    if loc == "task.name" and not inherited:
        parts.append(
            _("Some bring settings of their own, which any other option overrides: {settings}.").format(
                settings=needs()
            )
        )
    if loc != "task.pairs" and not inherited:
        default = field.get_default()
        shown = default if isinstance(default, str) else words.shown(loc, default)  # choices as they are typed
        parts.append(_("Default: {value}.").format(value=shown))
    group.add_argument(*words.options(loc), help=literal(" ".join(parts)), **settings)


def needs() -> str:
    """What the tasks set beside the defaults, as it is typed: "add --min-len 1 …; …"."""
    lines = []
    for task, recipe in RECIPES.items():
        given = [f"{words.options(f'{part}.{name}')[0]} {v}" for part in recipe for name, v in recipe[part].items()]
        lines += [" ".join([task, *given])] if given else []
    return "; ".join(lines)


def where(loc: str, options: argparse.Namespace) -> str:
    """What to change: the option of this setting, or its place in the file where that one says it."""
    section, _dot, name = loc.partition(".")
    from_file = getattr(options, "config", None) is not None and getattr(options, loc, None) is None
    known = section in SECTIONS and name in SECTIONS[section].model_fields
    return words.options(loc)[0] if known and not from_file else loc


def value(text: str) -> int | float | str:
    """A number where it is one; anything else is left to the configuration, which says what is wrong with it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def literal(help_text: str) -> str:
    return help_text.replace("%", "%%")  # argparse formats help with %


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def configuration(options: argparse.Namespace) -> RunConfig:
    """Defaults, then what the task brings, the preset, the file, the options.

    Raises ConfigError, PairsError, RunError, OSError.
    """
    data: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    if options.preset:
        chosen = next((p for p in PRESETS if options.preset in (p.name, slug(p.name))), None)
        if chosen is None:
            names = ", ".join(slug(preset.name) for preset in PRESETS)
            raise ConfigError(
                [Problem(loc="preset", template=NO_PRESET, values={"name": options.preset, "names": names})]
            )
        for section, settings in chosen.settings.items():
            data[section] |= settings
    if options.config:
        for section, settings in read_config(options.config).model_dump(mode="json").items():
            data[section] |= settings
    for loc, given in vars(options).items():
        section, _dot, name = loc.partition(".")
        if name and given is not None:
            data[section][name] = parse(start_of(given, MAX_BYTES)) if loc == "task.pairs" else given
    if options.__dict__.get("task.pairs") and options.__dict__.get("task.name") is None:
        data["task"]["name"] = "pairs"
    recipe = settings_for(data["task"].get("name", TaskConfig().name))
    return build(fit({section: recipe[section] | data[section] for section in SECTIONS}))


def read_config(file: Path) -> RunConfig:
    """Settings as JSON, or a run.json of any format up to this version's. Raises ConfigError, RunError, OSError."""
    raw = start_of(file, MAX_JSON_BYTES)
    try:
        facts = json.loads(raw)
    except (ValueError, RecursionError):
        facts = None  # `read` says what is wrong
    if isinstance(facts, dict) and type(facts.get("schema")) is int and facts["schema"] != store.SCHEMA:
        raw = json.dumps(store.current(facts)).encode()
    return read(raw)


def start_of(file: Path, most: int) -> bytes:
    """The file, or of a larger one just so much that it is refused: nobody knows what stands there."""
    with open_plain(file.resolve(strict=True)) as opened:  # a pipe may never answer
        return opened.read(most + 1)


def train(options: argparse.Namespace) -> int:
    from playground.estimate import LARGE_MEMORY, memory, refuse_too_large, size  # these load torch

    config = configuration(options)
    refuse_too_large(config)
    if (need := memory(config)) > LARGE_MEMORY:
        print(_("This run needs about {size} of memory.").format(size=size(need)), file=sys.stderr)
    store.root().mkdir(parents=True, exist_ok=True)
    run = store.create(config)
    if options.name:
        run.set_label(name=options.name)
    return train_here(run, options)


def resume(options: argparse.Namespace) -> int:
    run = wanted(options.run)
    if not run.goes_on() and options.steps is None:
        print(_("The run {id} is finished.").format(id=run.id), file=sys.stderr)
        return 0
    if not files.is_folder(run.path):
        raise store.RunError(LINKED, id=run.id)
    if run.alive(patience=0.5):
        raise store.RunError(AT_WORK, id=run.id)
    if options.steps is not None and not branches.train_on(run, options.steps):
        print(_(NOT_MORE).format(id=run.id, steps=run.target_steps), file=sys.stderr)
        if not run.goes_on():
            return 0
    run.withdraw("pause", "step", "stop")
    return train_here(run, options)


def branch(options: argparse.Namespace) -> int:
    from playground.estimate import refuse_too_large  # loads torch

    parent = wanted(options.run)
    step = max(parent.saved_steps(), default=0) if options.step is None else options.step
    data = parent.config.model_dump(mode="json")
    for loc, given in vars(options).items():
        section, _dot, name = loc.partition(".")
        if name and given is not None:
            data[section][name] = parse(start_of(given, MAX_BYTES)) if loc == "task.pairs" else given
    if data["task"]["name"] != "pairs":
        data["task"]["pairs"] = []
    config = build(data)
    refuse_too_large(config)
    run = branches.branch(parent, step, config)
    if options.name:
        run.set_label(name=options.name)
    return train_here(run, options)


def train_here(run: Run, options: argparse.Namespace) -> int:
    """Train in this process, to the end or to Ctrl-C."""
    import torch

    from playground.estimate import parameters
    from playground.runs.training import Locked, Training

    torch.set_num_threads(options.threads or (1 if parameters(run.config) < SMALL else os.cpu_count() or 1))
    leave = threading.Event()

    def ask_to_leave(number: int, frame: object) -> None:
        leave.set()
        signal.signal(number, signal.default_int_handler)  # a second Ctrl-C does not wait

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, ask_to_leave)
    with suppress(BrokenPipeError):  # who reads no more wants the run all the same
        print(run.id, flush=True)
    if options.pace is not None:
        run.set_pace(options.pace or None)
    bar = Bar(run.target_steps) if not options.quiet else None

    def tell(state: str) -> None:
        if state == "running" and (status := run.written_status()).template:  # another device than was asked for
            with suppress(OSError):
                print(_(status.template).format(**status.values), file=sys.stderr)

    try:
        state = Training(run, leave, on_state=tell, on_record=bar)()
    except Locked:
        print(_(AT_WORK).format(id=run.id), file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    if bar is not None:
        bar.end()
    status = run.status()
    if state == "interrupted":
        print(
            _("Saved at step {step}. To go on: python -m playground resume {id}").format(step=status.step, id=run.id),
            file=sys.stderr,
        )
        return INTERRUPTED
    if state in (None, "failed"):
        print(
            _(status.template).format(**status.values) if state else _("The run folder was deleted."), file=sys.stderr
        )
        return FAILED
    return 0


class Bar:
    """Progress on stderr: one line that is rewritten in a terminal, a line at every tenth elsewhere."""

    def __init__(self, steps: int) -> None:
        self.steps, self.live = steps, sys.stderr.isatty()
        self.start, self.first, self.shown, self.tenth = monotonic(), -1, 0.0, -1
        self.exact: float | None = None
        self.text = ""

    def __call__(self, record: "StepRecord") -> None:
        now = monotonic()
        if self.first < 0:
            self.first, self.start = record.step - 1, now
        self.exact = self.exact if record.exact_match is None else record.exact_match
        tenth = 10 * record.step // self.steps
        last = record.step == self.steps
        if not (last or now - self.shown >= 0.1 if self.live else tenth > self.tenth):
            return
        self.shown, self.tenth = now, tenth
        speed = (record.step - self.first) / max(now - self.start, 1e-3) if now > self.start else 0.0
        filled = 24 * record.step // self.steps
        parts = [_("step {step}/{steps}").format(step=record.step, steps=self.steps)]
        parts.append(_("loss {loss}").format(loss=f"{record.loss:.3g}"))
        if self.exact is not None:  # what is not known yet is left out
            parts.append(_("exact match {exact}").format(exact=f"{100 * self.exact:.3g} %"))
        if speed:
            left = duration((self.steps - record.step) / speed)
            parts.append(_("{speed} steps/s  {left} left").format(speed=f"{speed:.3g}", left=left))
        self.text = "  ".join(parts)
        line = f"{'█' * filled}{'░' * (24 - filled)} {self.text}"
        with suppress(OSError):  # nobody looks: training goes on
            sys.stderr.write(f"\r\x1b[K{line}" if self.live else f"{self.text}\n")
            sys.stderr.flush()

    def end(self) -> None:
        if self.live and self.text:
            with suppress(OSError):
                sys.stderr.write("\n")


def list_runs(options: argparse.Namespace) -> int:
    runs = store.list_runs()
    shown = runs if options.all else runs[:30]
    head = (
        _("id"),
        _("state"),
        _("task"),
        _("model"),
        _("step"),
        _("exact match"),
        _("time"),
        _("name"),
        _("differs in"),
    )
    rows, bad = [], store.unreadable()
    for run in shown:
        try:
            config, status = run.config, run.status()
            by_hand = changes.rates(run.path / "metrics.jsonl")
        except store.RunError as error:  # changed or deleted between two looks
            bad[run.id] = error
            continue
        exact = last_exact_match(run.path / "metrics.jsonl")
        model = f"{config.model.d_model}·{config.model.n_heads}·{config.model.n_layers}"
        rows.append(
            (
                run.id,
                status.state,
                config.task.name,
                model,
                f"{status.step}/{run.target_steps}",
                "–" if exact is None else f"{100 * exact:.3g} %",
                duration(status.seconds),
                names.own(run, task=config.task.name),
                differences.sentence(differences.from_default(config, by_hand)) or _("the default run"),
            )
        )
        if files := run.damage():
            bad[run.id] = store.RunError(store.PARTLY, files=", ".join(files))
    if not runs:
        print(_("No runs yet. Start one: python -m playground train"))
    else:
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        for row in (head, *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(runs) > len(shown):
        print(_("… and {n} more; --all shows them.").format(n=len(runs) - len(shown)))
    for name, why in bad.items():
        print(f"{name}: {_(why.template).format(**why.values)}", file=sys.stderr)
    return 0


def export(options: argparse.Namespace) -> int:
    from playground.runs import archive

    try:
        run = wanted(options.run)
        made = archive.export(run, options.file, force=options.force)
    except FileExistsError:
        raise store.RunError(archive.EXISTS, file=str(options.file)) from None
    size = f"{made.stat().st_size / 1e6:.3g}"
    print(_("The run {id} is written to {file} ({size} MB).").format(id=run.id, file=made, size=size), file=sys.stderr)
    return 0


def import_(options: argparse.Namespace) -> int:
    from playground.runs import archive

    store.root().mkdir(parents=True, exist_ok=True)
    print(archive.import_(options.file, limited=False).id)
    return 0


def delete(options: argparse.Namespace) -> int:
    run = store.folder_of(options.run) or wanted(options.run)  # one that cannot be read goes by its whole id
    if run.is_sample:
        print(_("The sample run belongs to the app and cannot be deleted."), file=sys.stderr)
        return FAILED
    if not options.yes:
        try:
            sure = input(_("Delete {id}? [y/N] ").format(id=run.id)).strip().lower() in ("y", "yes", "是")
        except EOFError:
            print()  # the question stays on a line of its own
            sure = False
        if not sure:
            print(_("Nothing was deleted."), file=sys.stderr)
            return FAILED
    whole = files.is_folder(run.path)
    if not store.delete(run.id):
        return FAILED
    said = (
        _("The run {id} is deleted. For a day this brings it back: python -m playground restore {id}")
        if whole
        else _("The link {id} is removed; the folder it leads to stays.")
    )
    print(said.format(id=run.id), file=sys.stderr)
    return 0


def restore(options: argparse.Namespace) -> int:
    if options.run and trash.restore(options.run):
        print(_("The run {id} is back.").format(id=options.run), file=sys.stderr)
        return 0
    if options.run:
        print(_("There is no deleted run {id}.").format(id=options.run), file=sys.stderr)
    for deleted in trash.listed():
        print(deleted.id)
    return FAILED if options.run else 0


def wanted(name: str) -> Run:
    """The run a person means: its id, the beginning of one, or "last". Raises RunError."""
    found = store.find(name)
    if found is not None:
        return found
    runs = [run for run in store.list_runs() if not run.is_sample]
    if name == "last":
        runs = runs[:1]
    elif name:
        runs = [run for run in runs if run.id.startswith(name)]
    if len(runs) == 1:
        return runs[0]
    raise store.RunError(AMBIGUOUS if runs and name else UNKNOWN, name=name, n=len(runs))


if __name__ == "__main__":
    sys.exit(main())
