"""The scheduler: says which task is next, the more urgent first, until nothing more can run."""

from __future__ import annotations

import heapq
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from kart_core.errors import KartError, MissingDataError, StorageError
from kart_core.execution.outcome import Outcome, error_of
from kart_core.identity import cycle, identity
from kart_core.task import missing_sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from kart_core.execution.crew import Crew
    from kart_core.execution.leases import Seen, TakenElsewhere, Watch
    from kart_core.graph import Node
    from kart_core.planning import Plan
    from kart_core.task import TaskOnKart

    AnyTask = TaskOnKart[Any]

    _Needs = tuple[tuple[str, float], ...]
    """What a task takes of resources."""


_log = logging.getLogger("kart_core.build")

_MOMENT: Final = 0.05  # seconds until a lease is tried again that went while it was looked at
LONGEST_PAUSE: Final = 3600.0
"""Seconds after which who waits looks up; the system has a limit for how long it can be asked to wait."""

_FEW: Final = 8  # requirements that are still to run, of a task that may be taken early: it costs a look at each

_ROUNDING: Final = 1e-9  # what is left of a resource after tenths were taken and given back may be a little less


class Listener:
    """What the scheduler tells as it goes; the default tells nobody."""

    def started(self, node: Node) -> None:
        """A task is about to run."""

    def finished(self, node: Node, seconds: float) -> None:
        """A task has run and its result is stored."""

    def failed(self, node: Node, seconds: float, error: BaseException) -> None:
        """A task has failed for good."""

    def blocked(self, node: Node) -> None:
        """A task cannot run, since one that it depends on failed."""

    def waiting(self, node: Node, holder: str) -> None:
        """A task waits for another process that runs it."""

    def reused(self, node: Node) -> None:
        """The result of a task was made by another process since the run was planned."""


class Scheduler:
    """Runs what a plan says.

    Of the tasks that can run, the one of the highest priority is next, and of equal ones that on
    which the longest chain of others waits. A failure stops only what depends on it.

    Args:
        plan: what runs.
        crew: who runs it.
        tell: told of each step.
        outcome: takes what became of the nodes; it is right also when an interruption ends the run early.
        limits: how much there is of each resource; of one that is not named, 1.
        plan_more: the plan of tasks that a running task asks for.
    """

    def __init__(
        self,
        plan: Plan,
        crew: Crew,
        tell: Listener,
        outcome: Outcome,
        limits: Mapping[str, float],
        plan_more: Callable[[Sequence[AnyTask]], Plan],
    ) -> None:
        self._crew = crew
        self._tell = tell
        self._outcome = outcome
        self._free = dict(limits)
        self._plan_more = plan_more
        self._numbers = 0
        self._ready: dict[_Needs, list[tuple[int, int, int, Node]]] = {}
        self._next: Node | None = None
        self._doubled = False  # whether a node may be ready twice, since it has become more urgent
        self._delayed: list[tuple[float, int, Node]] = []
        self._lent: set[Node] = set()  # who has lent its resources to those for which it waits
        self._going_on: list[tuple[_Ask, BaseException | None]] = []  # who waits to get them back
        self._early: set[Node] = set()  # who was taken before what it waits for has run
        self._urgency: dict[Node, int] = {}  # of what was asked for: as that of who asked
        self._tries: dict[Node, int] = {}
        self._watches: dict[Node, Watch] = {}
        self._expired: dict[Node, Seen] = {}
        self._plan = plan
        self._failures: dict[Node, BaseException] = {}
        self._asks: list[_Ask] = []
        self._by_id: dict[bytes, Node] | None = None
        self._count = 0
        # Later nodes were asked for by running tasks: their failure is the business of who asked.
        self._own = len(plan.in_order)
        self._add(plan.in_order)

    def run(self) -> None:
        """Runs until nothing more can."""
        crew = self._crew
        try:
            while any(self._ready.values()) or self._delayed or crew.busy:
                crew.fill(self)
                crew.wait(self, self.pause())
        except BaseException:
            crew.finish(self)  # what has run is not lost
            raise
        self._note_blocked()

    def _note_blocked(self) -> None:
        for node in self._plan.in_order:
            if node.waiting > 0 and node.action == "run":
                self._outcome.blocked.append(node)
                self._tell.blocked(node)

    # --- what a crew asks -------------------------------------------------------------

    @property
    def ready(self) -> int:
        """How many tasks could run now, as far as resources allow."""
        return sum(len(heap) for needs, heap in self._ready.items() if self._fits(needs))

    def next_number(self) -> int:
        """The number of the next attempt of this run."""
        self._numbers += 1
        return self._numbers

    def peek(self) -> Node | None:
        """The task that is next, or None where none can run now."""
        if self._delayed:
            self._wake()
        heaps = self._ready
        if self._doubled:
            self._drop_taken()
        if len(heaps) == 1 and () in heaps:  # nobody takes of anything
            heap = heaps[()]
            self._next = heap[0][3] if heap else None
        else:
            self._next = self._first_that_fits()
        return self._next

    def peek_for(self, asker: Node) -> Node | None:
        """As `peek`, of what a running task waits for alone."""
        node = self.peek()
        wanted = next((ask.nodes for ask in reversed(self._asks) if ask.asker is asker), ())
        if node is not None and node not in wanted:
            ready = (entry for heap in self._ready.values() for entry in heap)
            possible = [one for one in ready if one[3] in wanted and self._may_run(one[3])]
            node = self._next = min(possible)[3] if possible else None
        return node

    def _may_run(self, node: Node) -> bool:
        return not node.taken and node.waiting == 0 and self._fits(_needs(node))

    def _drop_taken(self) -> None:
        for heap in self._ready.values():
            while heap and (heap[0][3].taken or heap[0][3].waiting < 0):
                heapq.heappop(heap)

    def _first_that_fits(self) -> Node | None:
        """The most urgent of those for which there is enough.

        What one of them waits for is kept for it: those that come after it do not take of that, for where they are
        many and take less each, there would never be enough at once.
        """
        kept = {name for ask, _ in self._going_on for name, _ in _needs(ask.asker)}
        for head, needs in sorted((heap[0], needs) for needs, heap in self._ready.items() if heap):
            if not kept.isdisjoint(name for name, _ in needs):
                continue
            if self._fits(needs):
                return head[3]
            kept.update(name for name, _ in needs)
        return None

    def take(self) -> Node:
        """Takes the task that `peek` gave; its resources are its own until it is told what became of it."""
        node, self._next = self._next, None
        assert node is not None
        node.taken = True
        needs = _needs(node)
        heap = self._ready[needs]
        if heap[0][3] is node:
            heapq.heappop(heap)
        else:
            self._doubled = True  # what is left of it is dropped when its turn comes
        if needs:
            self._use(needs)
        return node

    def following(self, node: Node, others: Container[Node]) -> list[Node]:
        """Those that can run as soon as a taken task has, and others that were taken with it."""
        return [
            next_
            for next_ in node.dependents
            if 0 < next_.waiting <= _FEW
            and next_.action == "run"
            and next_ not in self._early
            and not _needs(next_)
            and next_.waiting == sum(one in others for one in next_.requirements)
        ]

    def take_early(self, node: Node) -> None:
        """Takes a task that `following` gave; it is returned where the one before it does not come to its end."""
        self._early.add(node)
        node.taken = True

    def upcoming(self, count: int) -> list[Node]:
        """Those that are likely next, in order, as long as they take of no resource and there is nothing to take over.

        Args:
            count: how many at most.
        """
        heap = self._ready.get((), [])
        found: list[Node] = []
        edge = [(heap[0], 0)] if heap else []  # a look at the first few of a heap leaves it as it is
        while edge and len(found) < count:
            (*_, node), at = heapq.heappop(edge)
            if node in self._expired:
                break
            if not node.taken and node.waiting == 0:
                found.append(node)
            for below in (2 * at + 1, 2 * at + 2):
                if below < len(heap):
                    heapq.heappush(edge, (heap[below], below))
        return found

    def was_asked_for(self, node: Node) -> bool:
        """Whether a running task waits for it."""
        return node in self._urgency

    def expired(self, node: Node) -> Seen | None:
        """The lease of another that a worker is to take over with the task, if there is one."""
        return self._expired.pop(node, None) if self._expired else None

    # --- what a crew tells ------------------------------------------------------------

    def started(self, node: Node) -> None:
        """A task begins to run."""
        self._tell.started(node)

    def finished(self, node: Node, seconds: float) -> None:
        """A task has run, and its result is stored."""
        self._give_back(node)
        self._outcome.ran.append(node)
        self._tell.finished(node, seconds)
        self._go_on(node)

    def made_inside(self, tasks: Iterable[AnyTask]) -> None:
        """A build inside a running task has made results; those of this run need not be made once more."""
        by_id = self._known()
        for task in tasks:
            node = by_id.get(identity(task))
            if node is not None and node.action == "run" and node.order > 0 and node.waiting >= 0 and not node.taken:
                node.taken = self._doubled = True
                self._outcome.made.append(node)
                self._tell.reused(node)
                self._go_on(node)

    def made(self, node: Node) -> None:
        """Another process has made the result of a task since the run was planned."""
        self._give_back(node)
        self._outcome.made.append(node)
        self._tell.reused(node)
        self._go_on(node)

    def elsewhere(self, node: Node, error: TakenElsewhere) -> None:
        """Another process works on a task, or has taken it over: it is come back to."""
        from kart_core.execution.leases import LostLease, Watch

        self._give_back(node)
        if isinstance(error, LostLease):
            _log.warning("%s", error)
        pause = _MOMENT
        if error.taken is not None:
            watch = self._watches[node] = Watch(node.resolved.workspace, node.unique_id, error.taken)
            pause = watch.again_in
            self._tell.waiting(node, str(watch.holder))
        heapq.heappush(self._delayed, (time.monotonic() + pause, node.order, node))

    def _go_on(self, node: Node) -> None:
        node.waiting = -1
        for dependent in node.dependents:
            dependent.waiting -= 1
            if dependent.waiting == 0 and dependent not in self._early:
                self._push(dependent)
        if self._asks:
            self._answer(node)

    def failed(self, node: Node, seconds: float, error: BaseException) -> None:
        """A run of a task has failed; it is tried again where its class says so."""
        if isinstance(error, KartError) and self._is_elsewhere(node, error):
            return
        self._give_back(node)
        policy = node.resolved.shape.policy
        tries = self._tries.get(node, 0)
        if tries < policy.retries:
            self._tries[node] = tries + 1
            wait = policy.retry_wait * 2.0**tries
            _log.warning(
                "%r failed with %s: %s; it is tried again%s, %d left",
                node.task,
                type(error).__name__,
                error,
                f" in {wait:g} s" if wait else "",
                policy.retries - tries,
            )
            if wait:
                heapq.heappush(self._delayed, (time.monotonic() + wait, node.order, node))
            else:
                self._push(node)
            return
        self._fail(node, seconds, error)

    def _is_elsewhere(self, node: Node, error: KartError) -> bool:
        """Whether a task did not run, or its result does not count, because of what another process does."""
        if not error.of_leases:
            return False
        from kart_core.execution.leases import TakenElsewhere

        if isinstance(error, TakenElsewhere):
            self.elsewhere(node, error)
        else:
            self.made(node)
        return True

    def returned(self, node: Node) -> None:
        """A task that was taken has not run and is ready again, or as soon as what it waits for has run."""
        self._give_back(node)
        self._early.discard(node)
        node.taken = False
        if node.waiting == 0:
            self._push(node)

    def asked(self, asker: Node, tasks: Sequence[AnyTask], reply: Callable[[BaseException | None], None]) -> None:
        """A running task asks for others.

        Args:
            asker: the task that asks.
            tasks: what it asks for.
            reply: called once, when all of them are stored (with None) or some of them cannot be.
        """
        try:
            plan = self._joined(self._plan_more(tasks), asker)
        except Exception as error:
            reply(error)
            return
        ask = _Ask(asker, plan, {node for node in plan.roots if node.waiting >= 0 and node.action != "reuse"}, reply)
        self._asks.append(ask)
        # Those for which it waits may need what it has. It has that again before it goes on.
        self._lent.add(asker)
        self._free_again(_needs(asker))
        self._hurry(plan, asker)
        self._add(plan.in_order)
        self._answer(None)

    def _hurry(self, plan: Plan, asker: Node) -> None:
        """Puts what was asked for before what would begin anew, so that few tasks wait half done."""
        urgency = self._urgency_of(asker)
        roots = set(plan.roots)
        for node in plan.in_order:
            self._urgency[node] = max(self._urgency_of(node), urgency)
            if node in roots:
                node.depth = max(node.depth, asker.depth + 1)
            if node.order >= 0 and node.waiting == 0 and node.action == "run" and not node.taken:
                self._doubled = True
                self._push(node)

    # --- inside -----------------------------------------------------------------------

    def _add(self, nodes: Sequence[Node]) -> None:
        new = [node for node in nodes if node.order < 0]
        for node in reversed(new):
            for child in node.requirements:
                child.depth = max(child.depth, node.depth + 1)
        free: list[Node] = []
        for node in new:
            self._count += 1
            node.order = self._count
            for child in node.requirements:
                # What is reused was never added; what has run already waits for nothing.
                if child.order >= 0 and child.waiting >= 0:
                    node.waiting += 1
                    if child.dependents:
                        child.dependents.append(node)
                    else:
                        child.dependents = [node]
            if not node.waiting:
                free.append(node)
        for node in free:
            self._push(node)

    def _push(self, node: Node) -> None:
        if node.action == "run":
            node.taken = False
            heap = self._ready.setdefault(_needs(node), [])
            heapq.heappush(heap, (-self._urgency_of(node), -node.depth, node.order, node))
        elif node.action == "missing":
            self._fail(node, 0.0, MissingDataError(missing_sentence(node.task)))
        else:
            self._pass(node)

    def _pass(self, node: Node) -> None:
        """A bundle is complete when what it bundles is; bundles of bundles may be deep."""
        pending = [node]
        while pending:
            bundle = pending.pop()
            bundle.waiting = -1
            for dependent in bundle.dependents:
                dependent.waiting -= 1
                if dependent.waiting == 0:
                    if dependent.action == "wrap":
                        pending.append(dependent)
                    else:
                        self._push(dependent)
            if self._asks:
                self._answer(bundle)

    def _fail(self, node: Node, seconds: float, error: BaseException) -> None:
        self._failures[node] = error
        if node.order <= self._own:
            self._outcome.failures[node] = error
        self._tell.failed(node, seconds, error)
        if self._asks:
            self._answer(None)

    def _urgency_of(self, node: Node) -> int:
        priority = node.resolved.shape.policy.priority
        return max(priority, self._urgency.get(node, priority)) if self._urgency else priority

    def _fits(self, needs: _Needs) -> bool:
        return all(self._free.setdefault(name, 1.0) - amount > -_ROUNDING for name, amount in needs)

    def _use(self, needs: _Needs) -> None:
        for name, amount in needs:
            self._free[name] -= amount

    def _free_again(self, needs: _Needs) -> None:
        for name, amount in needs:
            self._free[name] += amount

    def _give_back(self, node: Node) -> None:
        if self._lent and node in self._lent:  # its worker has ended while it waited for others
            self._lent.remove(node)
            self._asks = [ask for ask in self._asks if ask.asker is not node]
            self._going_on = [entry for entry in self._going_on if entry[0].asker is not node]
        elif needs := _needs(node):
            self._free_again(needs)
        if self._going_on:
            self._let_go_on()

    def _let_go_on(self) -> None:
        """Replies to those who asked and whose own resources are free again."""
        waiting, self._going_on = self._going_on, []
        for ask, error in waiting:
            needs = _needs(ask.asker)
            if self._fits(needs):
                self._use(needs)
                self._lent.remove(ask.asker)
                ask.reply(error)
            else:
                self._going_on.append((ask, error))

    def _wake(self) -> None:
        now = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            node = heapq.heappop(self._delayed)[2]
            watch = self._watches.get(node)
            if watch is not None:
                try:
                    ready = watch.look()
                except StorageError as error:
                    del self._watches[node]
                    self._fail(node, 0.0, error)
                    continue
                if not ready:
                    heapq.heappush(self._delayed, (time.monotonic() + watch.again_in, node.order, node))
                    continue
                del self._watches[node]
                if watch.expired is not None:
                    self._expired[node] = watch.expired
            self._push(node)

    def pause(self) -> float | None:
        """In how many seconds a task is looked at again that cannot run now; None where there is none."""
        return min(max(self._delayed[0][0] - time.monotonic(), 0.0), LONGEST_PAUSE) if self._delayed else None

    # --- tasks that running tasks ask for ---------------------------------------------

    def _joined(self, plan: Plan, asker: Node) -> Plan:
        """The plan with the nodes of this run in the place of equal ones, so that nothing runs twice."""
        by_id = self._known()

        def of_this_run(node: Node) -> Node:
            known = by_id.get(identity(node.task))
            # One that was reused may have to run now, and the reverse; only what this run runs is taken over. What is
            # yet to run anew counts as not stored, as it does for who requires it.
            if known is None or known.order < 0 or (node.action == "reuse" and known.waiting < 0):
                return node
            return known

        above = self._above(asker)
        for node in plan.in_order:
            known = of_this_run(node)
            if known in above:
                raise cycle([known.task, asker.task, known.task] if known is not asker else [asker.task, asker.task])
            if known is node:
                node.requirements = tuple(map(of_this_run, node.requirements))
        joined = type(plan)(tuple(map(of_this_run, plan.roots)), tuple(map(of_this_run, plan.nodes)))
        self._learn(joined.nodes)
        return joined

    def _known(self) -> dict[bytes, Node]:
        if self._by_id is None:
            self._by_id = {}
            self._learn(self._plan.nodes)
        return self._by_id

    def _learn(self, nodes: Iterable[Node]) -> None:
        assert self._by_id is not None
        for node in nodes:
            self._by_id[identity(node.task)] = node

    def _above(self, asker: Node) -> set[Node]:
        """The asker, and all that waits for it."""
        above: set[Node] = set()
        pending = [asker]
        while pending:
            node = pending.pop()
            if node not in above:
                above.add(node)
                pending.extend(node.dependents)
                pending.extend(ask.asker for ask in self._asks if node in ask.waiting)
        return above

    def _answer(self, done: Node | None) -> None:
        """Replies to those who asked and whose tasks have all run, or cannot."""
        for ask in list(self._asks):
            if done is not None and done not in ask.waiting:
                continue
            ask.waiting -= {done}
            if ask.waiting and not (self._failures and self._stuck(ask)):
                continue
            self._asks.remove(ask)
            below = [node for node in ask.plan.nodes if node in self._failures]
            error = None
            if ask.waiting or below:
                blocked = sum(node.waiting > 0 and node.action == "run" for node in ask.plan.nodes)
                failures = {node.task: self._failures[node] for node in below}
                error = error_of(failures, blocked)
                error.__cause__ = next(iter(failures.values()), None)
            self._going_on.append((ask, error))
        self._let_go_on()

    def _stuck(self, ask: _Ask) -> bool:
        """Whether nothing of what an asker waits for can still run."""
        failed = self._failures
        verdict: dict[Node, bool] = {}
        for node in ask.plan.in_order:
            below = [child for child in node.requirements if child.order >= 0 and child.waiting >= 0]
            verdict[node] = node in failed or any(verdict.get(child, child in failed) for child in below)
        return all(verdict.get(node, node in failed) for node in ask.waiting)


class _Ask:
    """Tasks for which a running task waits."""

    def __init__(
        self, asker: Node, plan: Plan, waiting: set[Node], reply: Callable[[BaseException | None], None]
    ) -> None:
        self.asker = asker
        self.plan = plan
        self.nodes = frozenset(plan.in_order)
        self.waiting = waiting
        self.reply = reply


def _needs(node: Node) -> _Needs:
    return node.resolved.shape.needs
