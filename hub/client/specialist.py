"""A specialist of a team: it registers, shows that it lives, takes tasks, and reports what becomes of them.

    async with Specialist(url, token=token, specialist_id="py-1", team="alpha", skills=["py"]) as me:
        async for task in me.tasks():
            await task.progress(0.5, "half of it")
            await task.submit({"name": "patch", "ref": "c0ffee"})

An error that leaves the block fails the tasks it has, with its message. A task that somebody else got meanwhile,
because this process was away for too long, raises `TaskLost` in whatever is said of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from hub.client.client import Client
from hub.client.subscription import Lost, Subscription
from hub.client.wire import Disconnected, Message
from protocol.errors import ErrorCode, HubError

POLL_HEARTBEATS = 3  # a look for work that nothing has told of
OFFER_S = 60.0
ASK_S = 3600.0
ENDED = frozenset({"COMPLETED", "FAILED", "CANCELED", "REJECTED"})
SECRETS = re.compile(r"(?<=://)[^/\s]+(?=@)|\beyJ[\w-]+\.[\w-]+\.[\w-]+|(?<=[Bb]earer )\S+")
"""In the message of an error, which the whole team reads: user and password in a URL, tokens."""


class TaskLost(Exception):
    """Somebody else has this task, or it has ended: nothing that is said of it counts any more."""


class Task:
    """A task of this specialist's. `spec` is what was asked for, `answer` what the last question was answered with."""

    def __init__(self, owner: Specialist, claimed: dict[str, Any]) -> None:
        self._owner = owner
        self.project_id: str = claimed["task"]["project_id"]
        self.task_id: str = claimed["task"]["task_id"]
        self.fence: int = claimed["fence"]
        self.spec: dict[str, Any] = claimed["spec"]
        self.answer: Any = claimed.get("answer")
        self.held = True
        self._state: dict[str, Any] = claimed["task"]
        self._changed = asyncio.Event()

    @property
    def state(self) -> str:
        return str(self._state.get("state"))

    async def progress(self, /, share: float, message: str | None = None, **usage: Any) -> None:
        """How far it is, 0 to 1; never less than before. `usage`: `usage=`, `cost_usd=` of a model."""
        given = {"message": message} if message is not None else {}
        await self._say("tasks.progress", progress=share, **given, **usage)

    async def block(self, *blockers: dict[str, str]) -> None:
        """Wait until none of these blocks it any more: `{"kind": "task", "ref": "t-1"}` goes by itself."""
        await self._say("tasks.block", blockers=list(blockers))
        await self._until(lambda state: state.get("substate") != "BLOCKED")

    async def ask(
        self,
        message: str,
        *,
        roles: Sequence[str],
        reason: str = "CONFIRMATION",
        response_schema: dict[str, Any] | None = None,
        quorum: int = 1,
        timeout_s: float = ASK_S,
    ) -> Any:
        """What people of these roles answer. Raises TaskLost when nobody did in time: the task has failed then."""
        schema = {"response_schema": response_schema} if response_schema is not None else {}
        await self._say(
            "tasks.request_input",
            reason=reason,
            message=message,
            approver_roles=list(roles),
            quorum=quorum,
            expires_at=await self._owner.from_now(timeout_s),
            **schema,
        )
        await self._until(lambda state: state.get("state") == "WORKING")
        detail = await self._owner.call("tasks.get", project_id=self.project_id, task_id=self.task_id)
        self.answer = detail.get("answer")
        return self.answer

    async def hand_off(
        self, to: str | None = None, *, skill: str | None = None, reason: str = "", timeout_s: float = OFFER_S
    ) -> bool:
        """Offer it to a specialist, or to whoever has the skill. True: it is theirs now; False: it is still ours."""
        whom = {"to_specialist": to} if to is not None else {"to_skill": skill}
        expires_at = await self._owner.from_now(timeout_s)
        accepted = await self._owner.offer(**self._claim(), **whom, reason=reason, expires_at=expires_at)
        if accepted:
            self.lose()
        return accepted

    async def submit(self, /, *artifacts: dict[str, Any], evidence: Iterable[dict[str, Any]] = (), **usage: Any) -> str:
        """Hand in the result. Returns the task's state: COMPLETED, or WORKING while gates are to be passed."""
        found = list(evidence)
        given = {"evidence": found} if found else {}
        await self._say("tasks.submit", artifacts=list(artifacts), **given, **usage)
        return self.state

    async def reviewed(self) -> str:
        """Wait until the gates have judged: COMPLETED, FAILED, or WORKING when it is to be done again."""
        await self._until(lambda state: state.get("substate") != "IN_REVIEW", ended=True)
        return self.state

    async def fail(self, reason: str) -> None:
        await self._say("tasks.fail", reason=reason)

    def _claim(self) -> dict[str, Any]:
        return {
            "project_id": self.project_id,
            "task_id": self.task_id,
            "specialist_id": self._owner.specialist_id,
            "fence": self.fence,
        }

    async def _say(self, method: str, **fields: Any) -> None:
        """Raises TaskLost, HubError."""
        if not self.held and self.state not in ENDED:
            raise TaskLost(f"{self.task_id} is somebody else's now")
        try:
            answer = await self._owner.call(method, **self._claim(), request_id=secrets.token_hex(8), **fields)
        except HubError as failure:
            if failure.code is ErrorCode.VERSION_CONFLICT:
                self.lose()
                raise TaskLost(f"{self.task_id} is somebody else's now") from failure
            if failure.code is not ErrorCode.ILLEGAL_TRANSITION:
                raise
            answer = await self._owner.call("tasks.get", project_id=self.project_id, task_id=self.task_id)
            now = answer["task"]
            if now["state"] not in ENDED:
                raise
            said = {"tasks.submit": "COMPLETED", "tasks.fail": "FAILED"}.get(method)
            if (now["state"], now.get("specialist_id")) != (said, self._owner.specialist_id):
                self.hear(now)
                raise TaskLost(f"{self.task_id} is {self.state}") from failure
            # It was said before, and the answer got lost.
        self.hear(answer["task"])

    def hear(self, update: dict[str, Any]) -> None:
        """What the hub tells of it."""
        if update.get("ts_event", 0) >= self._state.get("ts_event", 0):
            self._state = update
            if update.get("state") in ENDED:
                self.held = False
            self._changed.set()
            self._owner.wake()

    def lose(self) -> None:
        self.held = False
        self._changed.set()
        self._owner.wake()

    def look(self) -> None:
        """Whoever waits for it should see how things are."""
        self._changed.set()

    async def _until(self, fits: Callable[[dict[str, Any]], bool], *, ended: bool = False) -> None:
        """Wait for a state. Raises TaskLost when it ends before, unless that is what is waited for."""
        while True:
            self._owner.check()
            self._changed.clear()
            over = self._state.get("state") in ENDED
            if (over and ended) or (not over and fits(self._state)):
                return
            if over or not self.held:
                raise TaskLost(f"{self.task_id} is {self.state}" if over else f"{self.task_id} is somebody else's now")
            await self._changed.wait()


class Specialist:
    """See the module. `projects`: where it takes tasks; by default the one that is called as its team is."""

    def __init__(
        self,
        url: str,
        *,
        specialist_id: str,
        team: str,
        token: Any = None,
        skills: Sequence[str | dict[str, Any]] = (),
        max_concurrent: int = 1,
        heartbeat_s: float = 10.0,
        projects: Sequence[str] | None = None,
        accept_hand_offs: bool = True,
        client: Client | None = None,
        **card: Any,
    ) -> None:
        """`skills`: names, or entries with level and speed. `card`: further fields of the registry's entry, such as
        `usd_per_hour`. `client`: one that is connected already, instead of `url` and `token`.
        """
        self.specialist_id = specialist_id
        self.team = team
        self.hub = client or Client(url, token=token, name=specialist_id, kind="agent")
        self._owns_client = client is None
        self._entry = {
            "specialist_id": specialist_id,
            "team": team,
            "skills": [{"id": each} if isinstance(each, str) else each for each in skills],
            "max_concurrent": max_concurrent,
            "heartbeat_s": heartbeat_s,
            **card,
        }
        self._skills = {each["id"] for each in self._entry["skills"]}
        self._heartbeat_s = heartbeat_s
        self._max_concurrent = max_concurrent
        self._projects = list(projects) if projects is not None else [team]
        self._accepts = accept_hand_offs
        self._held: dict[tuple[str, str], Task] = {}
        self._offers: dict[str, dict[str, Any]] = {}  # of tasks that others would give us
        self._offered: dict[str, asyncio.Future[bool]] = {}  # of tasks that we would give away
        self._work = asyncio.Event()
        self._failure: BaseException | None = None
        self._open = contextlib.AsyncExitStack()
        self._running: list[asyncio.Task[None]] = []
        self.draining = False

    async def call(self, method: str, /, **params: Any) -> Any:
        """An operation that is repeated until it is answered. Raises HubError, Disconnected."""
        return await self.hub.insist(method, params)

    async def from_now(self, seconds: float) -> int:
        """By the hub's clock, in microseconds."""
        now_ms: int = (await self.call("hub.time"))["time"]
        return now_ms * 1000 + round(seconds * 1_000_000)

    def wake(self) -> None:
        """There may be something to do."""
        self._work.set()

    def check(self) -> None:
        """Raises what ended the specialist."""
        if self._failure is not None:
            raise self._failure

    async def tasks(self) -> AsyncIterator[Task]:
        """Tasks, as they come; with `max_concurrent` 1 each has to be ended before the next is asked for."""
        while True:
            yield await self.take()

    async def take(self) -> Task:
        """The next task, once there is one; see `tasks`."""
        if self._max_concurrent == 1 and (left := self._mine()):
            raise RuntimeError(f"{left[0].task_id} is still open: submit it, fail it or hand it off first")
        return await self._next()

    async def work(self, handle: Callable[[Task], Awaitable[None]]) -> None:
        """Handle tasks, as many at once as it can do, until cancelled. What `handle` raises fails its task only."""
        async with asyncio.TaskGroup() as group:
            while True:
                task = await self._next()
                group.create_task(self._handle(task, handle), name=f"task {task.task_id}")

    async def _handle(self, task: Task, handle: Callable[[Task], Awaitable[None]]) -> None:
        try:
            await handle(task)
        except (TaskLost, Disconnected):
            return
        except Exception as failure:
            if task.held:
                with contextlib.suppress(TaskLost, Disconnected):
                    await task.fail(_told(failure))

    async def offer(self, **fields: Any) -> bool:
        """Offer a task, and wait until that has ended. True: somebody has accepted."""
        handoff_id = secrets.token_hex(8)
        # Before it is made: it may have been accepted by the time that we hear of it.
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._offered[handoff_id] = ended
        try:
            await self.call("handoffs.offer", handoff_id=handoff_id, **fields)
            return await ended
        finally:
            del self._offered[handoff_id]

    # --- what goes on ---

    async def _next(self) -> Task:
        """Raises what ended the specialist."""
        while True:
            self.check()
            self._work.clear()
            if not self.draining and len(self._mine()) < self._max_concurrent:
                claimed = await self._accept() or await self._claim()
                if claimed is not None:
                    task = Task(self, claimed)
                    self._held[task.project_id, task.task_id] = task
                    return task
            try:
                async with asyncio.timeout(POLL_HEARTBEATS * self._heartbeat_s):
                    await self._work.wait()
            except TimeoutError:
                pass

    async def _claim(self) -> dict[str, Any] | None:
        where = {"project_id": self._projects[0]} if len(self._projects) == 1 else {}
        try:
            claimed = await self.call("tasks.claim", specialist_id=self.specialist_id, **where)
        except HubError as failure:
            if failure.code in (ErrorCode.ILLEGAL_TRANSITION, ErrorCode.LIMIT_EXCEEDED) or failure.code.temporary:
                return None  # somebody was faster, the budget is used up, or it may work later
            if failure.code is ErrorCode.NOT_FOUND:  # no such project yet
                return None
            raise
        return claimed if claimed.get("task") else None

    async def _accept(self) -> dict[str, Any] | None:
        while self._offers:
            handoff_id, _ = self._offers.popitem()
            try:
                answer: dict[str, Any] = await self.call(
                    "handoffs.accept", handoff_id=handoff_id, specialist_id=self.specialist_id
                )
            except HubError:
                continue  # too late, or not for us
            return answer
        return None

    def _mine(self) -> list[Task]:
        for key in [key for key, task in self._held.items() if not task.held]:
            del self._held[key]
        return list(self._held.values())

    async def _beat(self) -> None:
        while True:
            beating = {(task.project_id, task.task_id): task for task in self._mine()}
            claims = [
                {"project_id": task.project_id, "task_id": task.task_id, "fence": task.fence}
                for task in beating.values()
            ]
            try:
                answer = await self.call(
                    "agents.heartbeat", specialist_id=self.specialist_id, claims=claims, draining=self.draining
                )
                for lost in answer.get("lost", ()):
                    beating[lost["project_id"], lost["task_id"]].lose()
            except HubError as failure:
                if failure.code is ErrorCode.NOT_FOUND:
                    await self._register()
                elif not failure.code.temporary:
                    raise
            await asyncio.sleep(self._heartbeat_s)

    async def _register(self) -> None:
        await self.call("agents.register", specialist=self._entry)

    async def _follow(self, subscription: Subscription) -> None:
        async for message in subscription:
            self._hear(message)

    async def _look_again(self, lost: Lost) -> None:
        """Messages could not be recovered: how do our tasks stand?"""
        for task in self._mine():
            detail = await self.call("tasks.get", project_id=task.project_id, task_id=task.task_id)
            task.hear(detail["task"])
        self.wake()

    def _hear(self, message: Message) -> None:
        data = message.data
        if message.type == "HANDOFF":
            self._hear_offer(message)
        elif message.type in ("TASK_CREATED", "TASK_STATUS_UPDATE"):
            task = self._held.get((data.get("project_id", ""), data["task_id"]))
            if task is not None:
                task.hear(data)
            if data.get("state") in ("SUBMITTED", "COMPLETED"):
                self.wake()

    def _hear_offer(self, message: Message) -> None:
        offer = message.data
        name = offer.get("handoff_id")
        if name is None:
            return
        if (ours := self._offered.get(name)) is not None:
            if not ours.done() and offer["state"] != "OFFERED":
                ours.set_result(offer["state"] == "ACCEPTED")
        elif offer["state"] != "OFFERED":
            self._offers.pop(name, None)
        elif self._accepts and self._is_for_us(offer):
            self._offers[name] = offer
            self.wake()

    def _is_for_us(self, offer: dict[str, Any]) -> bool:
        to = offer["to_specialist"]
        if offer["from_specialist"] == self.specialist_id:
            return False
        return to == self.specialist_id or to in {f"skill:{skill}" for skill in self._skills}

    async def _keep(self, work: Awaitable[None]) -> None:
        """A background task whose death is the specialist's: whoever waits is told of it."""
        try:
            await work
        except Exception as failure:
            self._failure = failure
            for task in self._held.values():
                task.look()
            for ended in self._offered.values():
                if not ended.done():
                    ended.set_exception(failure)
            self.wake()

    async def __aenter__(self) -> Self:
        channels = [f"agent:{self.specialist_id}", *(f"tasks:{project}" for project in self._projects)]
        async with contextlib.AsyncExitStack() as stack:
            if self._owns_client:
                await stack.enter_async_context(self.hub)
            await self._register()
            work = [self._beat()]
            for channel in channels:
                subscription = self.hub.subscribe(channel, on_lost=self._look_again)
                work.append(self._follow(await stack.enter_async_context(subscription)))
            group = await asyncio.TaskGroup().__aenter__()
            stack.push_async_callback(group.__aexit__, None, None, None)
            self._running = [group.create_task(self._keep(each), name="specialist") for each in work]
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave: what it still has goes back to the team, or fails with the error that ended the block."""
        for running in self._running:
            running.cancel()
        try:
            async with asyncio.timeout(self._heartbeat_s):
                if isinstance(failure, Exception) and not isinstance(failure, TaskLost | Disconnected):
                    for task in self._mine():
                        await task.fail(_told(failure))
                await self.call("agents.leave", specialist_id=self.specialist_id)
        except (HubError, TaskLost, Disconnected, TimeoutError):
            pass  # the hub notices by itself
        finally:
            await self._open.__aexit__(kind, failure, traceback)


def _told(failure: Exception) -> str:
    return SECRETS.sub("***", f"{type(failure).__name__}: {failure}")[:500]
