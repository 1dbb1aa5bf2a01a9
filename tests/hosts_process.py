"""One of several processes that train together through the library; ``test_hosts.py`` starts them.

Arguments: port, process, processes. It prints as JSON the history, how many training rows it read, and a digest.
"""

import hashlib
import json
import sys

import jax
import numpy as np

port, process, processes = map(int, sys.argv[1:])
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, process, heartbeat_timeout_seconds=30)

import optax  # noqa: E402  (JAX joins the others before all else)

import jaxnets as jn  # noqa: E402
from jaxnets.hosts import on_host  # noqa: E402
from jaxnets.training import feed  # noqa: E402

RANDOM = np.random.default_rng(0)
DATA = jn.Data(inputs=RANDOM.normal(size=(160, 16)).astype(np.float32), labels=RANDOM.integers(0, 4, 160))
# A row that is not a number makes its step a bad one, which all processes must leave out alike.
DATA["inputs"][7] = np.nan
VALIDATION = jn.Data(inputs=RANDOM.normal(size=(45, 16)).astype(np.float32), labels=RANDOM.integers(0, 4, 45))

rows_read, taken = 0, feed._taken


def counted(array, rows, helpers):
    global rows_read  # noqa: PLW0603
    rows_read += len(rows) if array.ndim > 1 else 0
    return taken(array, rows, helpers)


feed._taken = counted
network = jn.network(jn.models.MLP, 16, (64, 64), 4, dropout=0.1)
learner = jn.supervised(network, jn.losses.softmax_cross_entropy, optax.adamw(1e-2), {"accuracy": jn.metrics.accuracy})
learner = jn.averaged(jn.accumulated(learner, 2), 0.9)
rule = jn.EarlyStopping(patience=50)
shape = {"data": jax.device_count()}
result = jn.fit(
    jn.sharded(learner, jn.make_mesh(shape), fully=True),
    DATA,
    duration=10,
    batch_size=32,
    evaluate_every=5,
    validation=VALIDATION,
    early_stopping=rule,
    on_device=False,
    progress=False,
)
leaves = jax.tree.leaves(on_host(result.state))
digest = hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
history = [{name: value for name, value in row.items() if name != "seconds"} for row in result.history]
print(json.dumps({"history": history, "rows": rows_read, "digest": digest, "reason": result.stop_reason}))
