"""A crew on a Ray cluster: nodes hold the model, and the driver has the queue and writes the run.

One actor per GPU holds the open model (per node, where the cluster has no GPU). The driver gives
each a part at a time. Ray's own retries are switched off, because they gave up when a node was lost
with its actors. Here the part goes back to the queue, and the other nodes go on.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pivottrace.cluster.remote import REMOTE, Worker
from pivottrace.errors import ConfigError, ModelError, first_line
from pivottrace.run.crew import Crew, Made
from pivottrace.run.records import DECISIVE_VERSIONS, installed_versions

CONNECT_S = 10.0
LOOK_AGAIN_S = 1.0  # for lanes that have opened
SLOW_S = 120.0  # a model may take so long to load
NO_NODE = (
    "no node of the cluster is left. Run the same command again when there is one: finished parts "
    "are kept"
)


class LaneLost(Exception):
    """The actor of a lane is gone, and its unfinished call with it."""


@dataclass(eq=False)
class Lane:
    """One actor, and the node that it lives on.

    Attributes:
        actor: Ray's handle of a `Worker`.
        node: Address of the node.
        node_id: Ray's name of the node.
        opened: The reference of the result of `Worker.open`.
        is_open: Whether the actor has the model open. Until then it gets no part, because the GPU
            may belong to another job for hours.
    """

    actor: Any
    node: str
    node_id: str
    opened: Any = None
    is_open: bool = False


class RayCrew(Crew):
    """The nodes of a cluster make the parts of a run, which only this process writes.

    Args:
        address: The address of the cluster's head, such as "10.0.0.1:6379", or "auto".

    Raises:
        ConfigError: Ray is not installed, or no cluster answers there.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._ray = _connect(address)
        self._lanes: list[Lane] = []
        self._told: dict[str, Any] = {}  # the result of `Worker.open` that was ready first
        self._here = threading.local()

    def open(self, opener: Callable[..., Any], *arguments: Any) -> Any:
        """Open a sampler or a tracer on every lane, in place of those before.

        An actor stays, because its start takes long. Nodes that have joined get actors too.

        Returns:
            A stand-in, whose calls go to the lane of the part that is being made.

        Raises:
            ModelError: The model cannot be loaded, or no node is left.
            ConfigError: A node has other versions of our libraries, or nodes have other models.
        """
        remote = REMOTE[opener]
        self._told = {}
        taken = Counter(lane.node_id for lane in self._lanes)
        for node, share in self._places():
            if taken[node["NodeID"]] > 0:
                taken[node["NodeID"]] -= 1
            else:
                self._lanes.append(self._lane(node, share))
        if not self._lanes:
            raise ConfigError("the cluster has no node with a GPU, and none with a CPU")
        for lane in self._lanes:
            lane.is_open = False
            lane.opened = lane.actor.open.remote(opener, arguments, remote.told)
        self._take_in(wait_s=SLOW_S)
        if not self._told:
            print("waiting for a free node of the cluster", file=sys.stderr, flush=True)
        while not self._told:
            self._take_in(wait_s=None)
        what = {"sample": "sampling", "trace": "tracing"}[remote.call]
        nodes = ", ".join(sorted({lane.node for lane in self._lanes}))
        print(f"{what} on {_actors(self._lanes)} ({nodes})", file=sys.stderr, flush=True)
        return remote(self._call, self._told)

    def make_parts(
        self,
        folder: Path,
        name: str,
        missing: Sequence[int],
        make: Callable[[int], pa.Table],
        is_written: Callable[[int], bool],
    ) -> Made:
        """Make the missing parts, one per lane at a time. Parts come as they are ready.

        Raises:
            ModelError: No node is left, or a model cannot respond.
        """
        left = deque(missing)
        under_way: dict[Future[pa.Table], tuple[Lane, int]] = {}
        with ThreadPoolExecutor(max(len(self._lanes), 1)) as threads:
            try:
                while left or under_way:
                    busy = [lane for lane, _ in under_way.values()]
                    for lane in self._lanes:
                        if left and lane.is_open and lane not in busy:
                            index = left.popleft()
                            future = threads.submit(self._make_on, lane, make, index)
                            under_way[future] = lane, index
                    done = wait(under_way, LOOK_AGAIN_S, FIRST_COMPLETED).done
                    for future in done:
                        lane, index = under_way.pop(future)
                        try:
                            table = future.result()
                        except LaneLost as lost:
                            self._drop(lane, f"{lost}; part {index} is made again")
                            left.appendleft(index)
                            continue
                        yield index, table
                    if left:
                        self._take_in(wait_s=0 if under_way or done else LOOK_AGAIN_S)
            finally:
                # After an error, the parts under way are not waited for.
                for lane, _ in under_way.values():
                    self._ray.kill(lane.actor)

    def _make_on(self, lane: Lane, make: Callable[[int], pa.Table], index: int) -> pa.Table:
        self._here.lane = lane
        return make(index)

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call what is open: on the lane of this thread or, outside of parts, on any."""
        lane = getattr(self._here, "lane", None)
        if lane is not None:
            return self._ask(lane, method, arguments)
        while True:
            self._take_in(wait_s=LOOK_AGAIN_S)
            for lane in [lane for lane in self._lanes if lane.is_open]:
                try:
                    return self._ask(lane, method, arguments)
                except LaneLost as lost:
                    self._drop(lane, str(lost))

    def _ask(self, lane: Lane, method: str, arguments: tuple[Any, ...]) -> Any:
        return self._get(lane, lane.actor.call.remote(method, arguments))

    def _get(self, lane: Lane, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.OutOfMemoryError as error:
            raise ModelError(
                f"{lane.node} has too little memory for the model ({first_line(error)})"
            ) from None
        except errors.RayError as error:
            raise LaneLost(f"the node {lane.node} is lost ({type(error).__name__})") from error

    def _take_in(self, wait_s: float | None) -> None:
        """Take in the lanes that have opened by now.

        Args:
            wait_s: How long to wait for one, if none has opened; None without end.

        Raises:
            ModelError: No lane is left, or the model cannot be loaded.
        """
        if not self._lanes:
            raise ModelError(NO_NODE)
        opening = {lane.opened: lane for lane in self._lanes if not lane.is_open}
        any_open = len(opening) < len(self._lanes)
        if not opening:
            return
        ready = self._ray.wait(list(opening), timeout=0 if any_open else wait_s)[0]
        for lane in map(opening.__getitem__, ready):
            try:
                told = self._get(lane, lane.opened)
            except LaneLost as lost:
                self._drop(lane, str(lost))
                continue
            self._compare(lane, told)
            lane.is_open = True

    def _compare(self, lane: Lane, told: dict[str, Any]) -> None:
        """Refuse a node that would make other parts than the rest."""
        now = installed_versions()
        for name in DECISIVE_VERSIONS:
            if told["versions"][name] != now[name]:
                raise ConfigError(
                    f"the node {lane.node} has {name} {told['versions'][name]}, and this process "
                    f"has {now[name]}. Install the same versions everywhere"
                )
        self._told = self._told or told
        if told["facts"] != self._told["facts"]:
            raise ConfigError(
                f"the node {lane.node} has another model than the first node. Put the same "
                f"files there, or set model.revision"
            )

    def _drop(self, lane: Lane, why: str) -> None:
        self._lanes.remove(lane)
        verb = "is" if len(self._lanes) == 1 else "are"
        print(f"{why}; {_actors(self._lanes)} {verb} left", file=sys.stderr, flush=True)

    def _places(self) -> list[tuple[dict[str, Any], dict[str, float]]]:
        """A node and its share of resources for each actor."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        with_gpu = [node for node in nodes if node["Resources"].get("GPU", 0) >= 1]
        if with_gpu:
            return [
                (node, {"num_gpus": 1, "num_cpus": 0})
                for node in with_gpu
                for _ in range(int(node["Resources"]["GPU"]))
            ]
        # All CPUs of a node, so that Ray gives the model as many threads.
        cpus = ((node, int(node["Resources"].get("CPU", 0))) for node in nodes)
        return [(node, {"num_cpus": number}) for node, number in cpus if number]

    def _lane(self, node: dict[str, Any], share: dict[str, float]) -> Lane:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        made = self._ray.remote(Worker).options(
            scheduling_strategy=here, max_restarts=0, max_task_retries=0, **share
        )
        return Lane(made.remote(), node["NodeManagerAddress"], node["NodeID"])


def _connect(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its advice for the next version, at every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError("--ray needs Ray: pip install 'pivottrace[ray]'") from None
    try:
        if address != "auto":
            _refuse_silence(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ValueError, RuntimeError, OSError) as error:
        raise ConfigError(
            f"--ray {address}: no Ray cluster can be used there ({first_line(error)}). Start one "
            f"with: ray start --head"
        ) from None
    return ray


def _actors(lanes: Sequence[Lane]) -> str:
    return f"{len(lanes)} actor{'s' * (len(lanes) != 1)}"


def _refuse_silence(address: str) -> None:
    """Refuse an address where nothing listens. Ray itself would wait there without end.

    Raises:
        ValueError: It is not a host with a port.
        OSError: Nothing answers there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ValueError("an address is a host with a port, such as 10.0.0.1:6379, or auto")
    with socket.create_connection((host, int(port)), timeout=CONNECT_S):
        pass
