"""How a process joins others that train the same run."""

import hashlib
import json
import os
import re
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import jax

from jaxnets.data import Splits
from jaxnets.errors import InputError, check_whole, short
from jaxnets.hosts import alone, check_alike, is_writer
from jaxnets.runs import console
from jaxnets.runs.environment import environment
from jaxnets.runs.folder import RunConfig
from jaxnets.runs.json_files import plain

_HEARTBEAT = 60  # seconds without a sign of life after which a process counts as gone, and the others end
_ANSWER = 1.0  # seconds that a coordinator has to answer, each time it is asked


@dataclass(frozen=True)
class Hosts:
    """Several processes, on one machine or on many, that train one run together."""

    distributed: bool = False
    """train with all processes that SLURM, Open MPI, Kubernetes or a TPU pod has started, each with this command"""
    coordinator: str | None = None
    """HOST:PORT where process 0 listens; for processes that are started by hand, with --process and --processes"""
    process: int | None = None
    """which of the processes this is, from 0"""
    processes: int | None = None
    """how many there are"""
    join_timeout: int = 300
    """seconds to wait until all processes are there"""

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.distributed or self.coordinator is not None

    def mesh(self, given: str | None) -> str | None:
        """Return the mesh that is given, or one that spreads batches over the devices of all processes."""
        return f"data={jax.device_count()}" if given is None and self.several else given


def join(hosts: Hosts) -> None:
    """Join the other processes, if there are any; it comes before anything is computed.

    All but the first are silent from then on.

    Raises:
        InputError: if the options do not go together, or the others are not there in time.
    """
    by_hand = {"coordinator": hosts.coordinator, "process": hosts.process, "processes": hosts.processes}
    missing = [name for name, value in by_hand.items() if value is None]
    if 0 < len(missing) < len(by_hand):
        raise InputError(f"{', '.join(missing)} must be given, too: --coordinator HOST:PORT --process I --processes N")
    if hosts.join_timeout != Hosts.join_timeout and not hosts.several:
        raise InputError(f"join_timeout={hosts.join_timeout} changes nothing in a process alone; leave it out")
    check_whole("join_timeout", hosts.join_timeout, remedy="seconds")
    if not hosts.several:
        return
    if not missing:
        _check_by_hand(hosts)
    try:
        jax.distributed.initialize(
            hosts.coordinator,
            hosts.processes,
            hosts.process,
            initialization_timeout=hosts.join_timeout,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(_not_joined(hosts, error)) from error
    if not is_writer():
        console.silence()


def _check_by_hand(hosts: Hosts) -> None:
    """Check the options of processes that are started by hand, and that the first of them answers."""
    assert hosts.coordinator is not None
    assert hosts.process is not None
    check_whole("processes", hosts.processes, remedy="of the run")
    check_whole("process", hosts.process, 0, (hosts.processes or 1) - 1, "one for each process")
    match = re.fullmatch(r"(\S+):(\d{1,5})", hosts.coordinator)
    if not match or not 0 < int(match[2]) < 1 << 16:
        raise InputError(f"coordinator={short(hosts.coordinator)} must be HOST:PORT, such as 10.0.0.1:1234")
    if hosts.process:
        _wait_for(match[1].strip("[]"), int(match[2]), hosts)


def _wait_for(host: str, port: int, hosts: Hosts) -> None:
    """Wait until process 0 listens: JAX ends a process that waits in vain, without an error to be caught."""
    until = time.monotonic() + hosts.join_timeout
    while True:
        try:
            socket.create_connection((host, port), _ANSWER).close()
        except OSError as error:
            if time.monotonic() > until:
                raise InputError(
                    f"coordinator={hosts.coordinator} did not answer in {hosts.join_timeout} s ({error}): is process 0 "
                    "running there, and may this machine reach that port? --join-timeout waits longer"
                ) from error
            time.sleep(0.2)
        else:
            return


def _not_joined(hosts: Hosts, error: Exception) -> str:
    if hosts.coordinator is None and isinstance(error, ValueError):
        return (
            "distributed: neither SLURM, Open MPI, Kubernetes nor a TPU pod has started this process; start it so, or "
            f"give --coordinator HOST:PORT --process I --processes N ({error})"
        )
    said = str(error).splitlines()[0]
    if "must be called before" in said:
        return (
            "this process has computed something before it could join the others, as finetune does to read a run: go "
            "on from a run in one process (--mesh spreads it over its devices); train and resume join"
        )
    return f"not all processes were there within {hosts.join_timeout} s, or they do not agree on their number: {said}"


def check_together(config: RunConfig, splits: Splits) -> None:
    """Check that all processes train the same run, on the same data and versions; their paths may differ.

    Raises:
        InputError: in every process, if one does not.
    """
    if alone():
        return

    def without_paths(values: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value for key, value in values.items() if key not in ("data", "data_dir") or isinstance(value, dict)
        }

    asked = json.loads(json.dumps(plain(config)), object_hook=without_paths)
    versions = {name: value for name, value in environment().items() if name in ("jax", "jaxlib", "jaxnets")}
    for what, facts in {"options": asked, "data": splits.fingerprint, "versions": versions}.items():
        check_alike(what, hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest())


def leave(status: int) -> None:
    """End a process that failed at once, if there are others: they would be waited for in vain."""
    if not alone():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
