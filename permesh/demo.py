"""The demo: three members on this machine, from nothing to a pooled answer.

Owns the story that `permesh demo` tells, and the three daemons it starts in homes of their own.
It is a face like any other: it runs the `permesh` command and speaks to the daemons over their
sockets, so what it shows is what a member would see. Must never reach into a daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import schema
from .client import Client
from .config import Home, find_home, load_config
from .display import clean, clean_line
from .errors import PermeshError

MODEL = "smollm2-135m"
ROOM = "lobby"
QUESTION = "Explain in three sentences why bees matter to an orchard."
MAX_TOKENS = 64
# (name, layers served): the asker keeps the first six and the last four of the model's thirty.
MEMBERS = (("atlas", ""), ("birch", "6:16"), ("coral", "16:26"))

START_SECONDS = 60.0
MEET_SECONDS = 60.0
STOP_SECONDS = 10.0
COMMAND_SECONDS = 900.0
_POLL_SECONDS = 0.1


@dataclass
class Member:
    """One of the demo's members: its home, its daemon and a client of it."""

    name: str
    home: Home
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(self.home.socket)

    @property
    def output(self) -> Path:
        """What the daemon says on its terminal, beside the log that it keeps itself."""
        return self.home.root / "output.txt"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "permesh", "--home", str(self.home.root), *arguments]

    def run(self, *arguments: str) -> str:
        """Run one `permesh` command to its end; its last line of complaint becomes our error."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            complaint = _last_line(done.stderr)
            raise PermeshError(
                "demo.command_failed",
                f"'permesh {' '.join(arguments[:2])}' failed for {self.name}: {complaint}",
                "Run 'permesh doctor' to see what this machine lacks.",
            )
        return done.stdout

    def start(self) -> None:
        """Start the daemon and wait until its socket answers, which means that it is ready."""
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("daemon", "--listen", "/ip4/127.0.0.1/tcp/0"),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo, which stops its daemons itself
            )
        wait_for(f"{self.name}'s daemon", START_SECONDS, self._is_ready)

    def _is_ready(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            last = _last_line(self.output.read_text(errors="replace"))
            raise PermeshError(
                "demo.daemon_ended",
                f"{self.name}'s daemon ended with status {self.process.returncode}: {last}",
                f"Its log is {self.home.log}.",
            )
        try:
            self.client.status()
        except PermeshError as error:
            if error.code in ("daemon.absent", "daemon.gone"):
                return False
            raise
        return True

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


def mail(member: Member) -> str:
    """What the registrars know the member's person by."""
    return f"{member.name}@example.org"


class Demo:
    """The story, step by step; ``say`` prints one line of it."""

    def __init__(self, root: Path, models: Path, console: Console) -> None:
        environment = {**os.environ, "PERMESH_MODELS": str(models), "PYTHONUNBUFFERED": "1"}
        environment.pop("PERMESH_HOME", None)
        self.models = models
        self.console = console
        self.members = [Member(name, Home(root / name), environment) for name, _ in MEMBERS]
        self.atlas, self.birch, self.coral = self.members

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def found(self) -> None:
        self.say("[bold]1. Three identities, one mesh[/]")
        for member in self.members:
            member.run("init", "--name", member.name)
        self.atlas.run("mesh", "create", "orchard", "--person", mail(self.atlas))
        self.atlas.start()
        line = self.atlas.client.invite().line
        for member in (self.birch, self.coral):
            member.run("mesh", "join", line, "--person", mail(member))
            member.start()
        for member in (self.birch, self.coral):
            agent = member.client.status().agent
            wait_for(
                f"{member.name}'s request to reach atlas",
                MEET_SECONDS,
                partial(self._atlas_knows, agent),
            )
            admitted = self.atlas.client.admit(agent, mail(member))
            self.say(f"   atlas admits {admitted.name} as {admitted.number}")
        for member in self.members:
            wait_for(
                f"{member.name} to see the other two",
                MEET_SECONDS,
                partial(_has_peers, member, 2),
            )
        self.say("   every daemon checked the others' credentials; all three are connected")

    def _atlas_knows(self, agent: str) -> bool:
        return any(member.agent == agent for member in self.atlas.client.members().items)

    def talk(self) -> None:
        self.say("\n[bold]2. A room[/]")
        self.atlas.client.create_room(ROOM, "where the orchard meets")
        self._show_post(self.atlas, "Who has layers to spare this evening?", None)
        first = self.atlas.client.posts(ROOM).items[-1].id
        self._show_post(self.birch, "Ten of them, six to fifteen.", first)

    def _show_post(self, author: Member, text: str, reply_to: str | None) -> None:
        wait_for(f"the room at {author.name}", MEET_SECONDS, partial(has_room, author))
        started = time.monotonic()
        post = author.client.post(ROOM, text, reply_to)
        for other in self.members:
            if other is not author:
                wait_for(f"the post at {other.name}", MEET_SECONDS, partial(_has, other, post))
        took = time.monotonic() - started
        self.say(f"   {author.name}: {clean(post.text)}  [dim](with the others in {took:.2f} s)[/]")

    def serve(self) -> None:
        self.say(f"\n[bold]3. {MODEL}, in three places[/]")
        for member, (_, layers) in zip(self.members, MEMBERS, strict=True):
            if layers:
                span = member.client.serve(MODEL, layers)
                self.say(f"   {member.name} holds layers {span.first} to {span.last - 1}")
        wait_for("atlas to hear of both spans", MEET_SECONDS, self._chain_known)
        self.say("   atlas keeps the tokenizer, the embedding, the first and the last layers")

    def _chain_known(self) -> bool:
        served = [
            span
            for model in self.atlas.client.models().items
            if model.name == MODEL
            for span in model.served
        ]
        return len(served) >= 2

    def ask(self) -> schema.Route:
        self.say(f"\n[bold]4. A question[/]\n   atlas: {QUESTION}\n")
        route: schema.Route | None = None
        messages = [{"role": "user", "content": QUESTION}]
        for delta in self.atlas.client.chat(
            MODEL, messages, max_tokens=MAX_TOKENS, temperature=0.0, route="mesh"
        ):
            self.console.out(clean(delta.text), end="", highlight=False)
            route = delta.route or route
        self.console.out("\n")
        if route is None:
            raise PermeshError(
                "demo.no_route",
                "The answer came without its route.",
                f"Its daemon's log is {self.atlas.home.log}.",
            )
        return route

    def compare(self, route: schema.Route) -> None:
        """Hold the answer against plain mlx-lm, whole, in a process of its own."""
        self.say("[bold]5. The same question to the unsplit model, in one process[/]")
        done = subprocess.run(
            [
                sys.executable, "-m", "permesh.inference.reference",
                str(self.models / MODEL), "--prompt", QUESTION, "--max-tokens", str(MAX_TOKENS),
            ],
            capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise PermeshError(
                "demo.reference_failed",
                f"The unsplit model did not answer: {_last_line(done.stderr)}",
                "Run 'permesh doctor' to see what this machine lacks.",
            )
        whole: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        expected = whole["token_ids"]
        if route.token_ids != expected:
            same = next(
                (
                    at
                    for at, (ours, theirs) in enumerate(
                        zip(route.token_ids, expected, strict=False)
                    )
                    if ours != theirs
                ),
                min(len(route.token_ids), len(expected)),
            )
            raise PermeshError(
                "demo.answers_differ",
                f"The split answer leaves the unsplit one at token {same} of {len(expected)}.",
                "This is a fault of permesh: please report it with the output of permesh doctor.",
            )
        self.say(f"   {len(expected)} of {len(expected)} tokens are the same\n")
        self.console.print(_table(route))
        self.say(
            f"   {route.tokens_per_second:.1f} tokens a second over three processes, "
            f"{whole['decode_tokens_per_s']:.1f} in one; first token after "
            f"{route.ttft_seconds:.2f} s."
        )


def _table(route: schema.Route) -> Table:
    table = Table(title=f"{MODEL}: who computed what ({route.route} route)", title_justify="left")
    for heading in ("member", "layers", "ms", "lane", "bytes sent", "got to see"):
        right = heading in ("ms", "bytes sent")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for stage in route.stages:
        table.add_row(
            f"{clean_line(stage.name)} {stage.number}",
            f"{stage.first} to {stage.last - 1}",
            f"{stage.milliseconds:,.0f}",
            stage.lane,
            f"{stage.bytes_sent:,}",
            stage.saw,
        )
    return table


def _last_line(text: str) -> str:
    return clean_line((text.strip().splitlines() or ["no output"])[-1])


def _has_peers(member: Member, count: int) -> bool:
    return len(member.client.status().peers) >= count


def has_room(member: Member, name: str = ROOM) -> bool:
    return any(room.name == name for room in member.client.rooms().items)


def _has(member: Member, post: schema.Post) -> bool:
    if not has_room(member):
        return False
    return any(seen.id == post.id for seen in member.client.posts(ROOM).items)


def wait_for(what: str, seconds: float, ready: Callable[[], bool]) -> None:
    """Ask until it is so; the demo's daemons are other processes and tell nobody else."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise PermeshError(
                "demo.timeout",
                f"Waited {seconds:.0f} s for {what}.",
                "Try again with --keep and look at the daemons' logs.",
            )
        time.sleep(_POLL_SECONDS)


def run_demo(*, keep: bool, console: Console | None = None) -> None:
    """Tell the whole story; with ``keep`` the daemons stay up until Ctrl-C."""
    console = console or Console()
    home = find_home()
    models = load_config(home).models_directory(home)
    # Short on purpose: a Unix socket's path has little room, and macOS's temporary folder is long.
    base = "/tmp" if Path("/tmp").is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="permesh-", dir=base))
    demo = Demo(root, models, console)
    failed = False
    try:
        with _terminated_as_interrupt():
            fetch(demo)
            demo.found()
            demo.talk()
            demo.serve()
            demo.compare(demo.ask())
            if keep:
                _keep(demo)
    except PermeshError:
        failed = True  # what the daemons wrote is what explains it
        console.print(f"\nThe homes and logs are left in {root}", highlight=False)
        raise
    finally:
        stop(demo.members)
        if not failed:
            shutil.rmtree(root, ignore_errors=True)


def fetch(demo: Demo) -> None:
    """Outside the story: the one command whose progress bar the reader should see."""
    if not (demo.models / MODEL / "permesh.json").is_file():
        demo.say(f"[bold]0. Fetching {MODEL}[/] (once; about 100 MB)")
        command = demo.atlas.command("model", "fetch", MODEL)
        if subprocess.run(command, env=demo.atlas.environment, check=False).returncode:
            raise PermeshError(
                "demo.fetch_failed",
                f"{MODEL} could not be fetched.",
                "See the message above, then run the demo again.",
            )


def _keep(demo: Demo) -> None:
    demo.say("\n[bold]The three daemons are still running.[/] In another terminal:")
    for member in demo.members:
        demo.say(f"   permesh --home {member.home.root} tui")
    demo.say("Ctrl-C here stops them and removes their homes.")
    with contextlib.suppress(KeyboardInterrupt):
        while all(member.process and member.process.poll() is None for member in demo.members):
            time.sleep(1.0)


def stop(members: Sequence[Member]) -> None:
    """SIGTERM to all, then SIGKILL to whoever is left."""
    for member in members:
        member.client.close()
        member.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for member in members:
        if member.process is not None:
            try:
                member.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.signal(signal.SIGKILL)
                member.process.wait()


@contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """A SIGTERM to the demo cleans up as Ctrl-C does."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
