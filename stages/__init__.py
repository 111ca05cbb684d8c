"""One thin script per stage of ``dvc.yaml``.

A stage that DVC starts runs in a fork of a preloaded process, which has imported torch, if one is ready.

Importing torch and open_clip creates a million permanent objects. Collecting garbage among them takes a sixth of the
start-up time (measured: 6.0 against 5.1 s of CPU time), so the collector is off until :func:`run_stage`.
"""

import gc
import sys

if sys.argv[0] == "-m":  # a stage is being started, not imported
    from tauflow.running.preload import run_in_fork

    run_in_fork()
    gc.disable()
